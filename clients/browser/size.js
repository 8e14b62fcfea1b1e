// How large the module is where it is shipped: minified and gzipped. Fails above the limit that README.md promises.
import { transform } from "esbuild";
import { readFile } from "node:fs/promises";
import { gzipSync } from "node:zlib";

const LIMIT_BYTES = 5000;

const source = await readFile(new URL("./stream-chat.js", import.meta.url), "utf8");
const { code } = await transform(source, { minify: true, target: "es2022", format: "esm" });
const bytes = gzipSync(code, { level: 9 }).length;
console.log(`stream-chat.js: ${bytes} bytes minified and gzipped (limit ${LIMIT_BYTES})`);
process.exitCode = bytes > LIMIT_BYTES ? 1 : 0;
