// Bundles the UI into dist/: app.js, app.css and index.html. The same sources and lockfile give the
// same bytes, which is what lets the bundle be committed and checked.
import { build } from "esbuild";
import { copyFile, mkdir } from "node:fs/promises";

await mkdir("dist", { recursive: true });
await build({
  entryPoints: { app: "src/main.tsx" },
  outdir: "dist",
  bundle: true,
  minify: true,
  format: "esm",
  target: "es2022",
  legalComments: "none",
  jsx: "automatic",
  jsxImportSource: "preact",
  alias: { react: "preact/compat", "react-dom": "preact/compat" },
  logLevel: "warning",
});
await copyFile("src/index.html", "dist/index.html");
