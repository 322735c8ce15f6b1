// Bundles each panel of src/ into the folder given as first argument: a .ts file with a default
// export is a panel, a .css file of its name is its style.
import { readFileSync, readdirSync } from "node:fs";
import { build } from "esbuild";

const out = process.argv[2] ?? "../earthmind_lab/widgets/static";
const files = readdirSync("src");
const panels = files.filter(
  (name) => name.endsWith(".ts") && /^export default /m.test(readFileSync(`src/${name}`, "utf8")),
);
const styles = panels.map((name) => name.replace(/\.ts$/, ".css"));

await build({
  entryPoints: [...panels, ...styles.filter((name) => files.includes(name))].map((n) => `src/${n}`),
  outdir: out,
  bundle: true,
  format: "esm",
  target: "es2022",
  minify: true,
  charset: "utf8",
  logLevel: "warning",
});
