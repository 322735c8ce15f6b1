// Bundles src/{chat,pairs}.{ts,css} and src/swipe.ts into the folder given as first argument.
import { build } from "esbuild";

const out = process.argv[2] ?? "../earthmind_lab/widgets/static";

await build({
  entryPoints: ["chat.ts", "pairs.ts", "swipe.ts", "chat.css", "pairs.css"].map((n) => `src/${n}`),
  outdir: out,
  bundle: true,
  format: "esm",
  target: "es2022",
  minify: true,
  charset: "utf8",
  logLevel: "warning",
});
