// Bundles src/{chat,pairs}.{ts,css} into the folder given as first argument.
import { build } from "esbuild";

const out = process.argv[2] ?? "../earthmind_lab/widgets/static";

await build({
  entryPoints: ["src/chat.ts", "src/pairs.ts", "src/chat.css", "src/pairs.css"],
  outdir: out,
  bundle: true,
  format: "esm",
  target: "es2022",
  minify: true,
  charset: "utf8",
  logLevel: "warning",
});
