// Builds the front end into ../taskfleet_dashboard/static: the same bytes from the same sources on every machine.
//
// Names carry a hash of their content, so the server may let browsers keep them for ever. `--out DIR` builds elsewhere;
// the test that compares a fresh build with the committed one uses it.
import { mkdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { createHash } from "node:crypto";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { build } from "esbuild";

const here = dirname(fileURLToPath(import.meta.url));
const flag = process.argv.indexOf("--out");
const out = flag > 0 ? process.argv[flag + 1] : join(here, "..", "taskfleet_dashboard", "static");
const assets = join(out, "assets");

rmSync(out, { recursive: true, force: true });
mkdirSync(assets, { recursive: true });

const result = await build({
  absWorkingDir: here,
  entryPoints: { app: "src/main.tsx", style: "src/styles/index.css" },
  outdir: assets,
  entryNames: "[name]-[hash]",
  chunkNames: "[name]-[hash]",
  bundle: true,
  splitting: true,
  format: "esm",
  target: ["es2022"],
  charset: "utf8",
  minify: true,
  sourcemap: false,
  legalComments: "none",
  metafile: true,
  logLevel: "warning",
});

const name = (entry) => {
  const found = Object.entries(result.metafile.outputs).find(([, output]) => output.entryPoint === entry);
  if (!found) throw new Error(`esbuild made no file of ${entry}`);
  return found[0].split("/").pop();
};

const icon = readFileSync(join(here, "favicon.svg"));
const iconName = `favicon-${createHash("sha256").update(icon).digest("hex").slice(0, 8)}.svg`;
writeFileSync(join(assets, iconName), icon);

const page = readFileSync(join(here, "index.html"), "utf8")
  .replace("APP", name("src/main.tsx"))
  .replace("STYLE", name("src/styles/index.css"))
  .replace("ICON", iconName);
writeFileSync(join(out, "index.html"), page);

// What is in the bundle, and its licences: Preact and dagre are MIT, which asks for this.
const licence = (folder) => readFileSync(join(here, "node_modules", folder, "LICENSE"), "utf8").trim();
const packages = ["preact", "@dagrejs/dagre", "@dagrejs/graphlib"];
const version = (folder) => JSON.parse(readFileSync(join(here, "node_modules", folder, "package.json"), "utf8")).version;
writeFileSync(
  join(out, "LICENSES.txt"),
  packages.map((folder) => `${folder} ${version(folder)}\n\n${licence(folder)}\n`).join("\n---\n\n"),
);
