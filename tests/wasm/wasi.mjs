/* wasi.mjs - run a WASI program in node: node wasi.mjs PROGRAM.wasm. Its exit status is node's. */
import { readFileSync } from 'node:fs'
import { WASI } from 'node:wasi'

const wasi = new WASI({ version: 'preview1', args: [process.argv[2]] })
const module = await WebAssembly.compile(readFileSync(process.argv[2]))
process.exitCode = wasi.start(await WebAssembly.instantiate(module, wasi.getImportObject()))
