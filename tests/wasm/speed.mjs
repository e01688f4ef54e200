/* speed.mjs MODEL [ROUNDS] - how fast the WebAssembly modules of examples/wasm/dist read a passage of 128 tokens, beside the native
   addon with AVX2 and on one and two threads. The engines take turns in one process, and the best of their turns counts: what
   else the machine does is no part of it. Prints "name threads value unit" a line, which docs/speed/figures.py collects. */
import { Kalm, features } from '../../examples/wasm/kalm.node.mjs'

const [model, rounds = 12] = process.argv.slice(2)
const TOKENS = 128
const wanted = [
    { name: 'native_avx2', backend: 'native', kernels: 'avx2', threads: 1 },
    { name: 'simd', backend: 'wasm', relaxed: false, threads: 1 },
    { name: 'simd', backend: 'wasm', relaxed: false, threads: 2 },
]
if (features().relaxed) wanted.push({ name: 'relaxed', backend: 'wasm', relaxed: true, threads: 1 }, { name: 'relaxed', backend: 'wasm', relaxed: true, threads: 2 })

const engines = []
for (const { name, threads, ...options } of wanted) {
    const kalm = await Kalm.load(model, { threads, ...options, maxDocTokens: TOKENS })
    if (kalm.info.threads !== threads) throw new Error(`${name}: ${kalm.info.threads} threads instead of ${threads}`)
    engines.push({ name, threads, kalm, best: Infinity })
}
/* Cut at maxDocTokens, so that each engine reads as many tokens. */
const text = 'A program that plays chess against you, with a clock and a book of openings. '.repeat(40)
const first = await engines[0].kalm.encode(text)
for (let round = 0; round < rounds; round++)
    for (const engine of engines) {
        const from = performance.now()
        const document = await engine.kalm.encode(text)
        engine.best = Math.min(engine.best, performance.now() - from)
        if (Buffer.compare(Buffer.from(document), Buffer.from(first))) throw new Error(`${engine.name}: another document than natively`)
    }
const rate = (name, threads) => TOKENS * 1000 / engines.find((e) => e.name === name && e.threads === threads).best
for (const { name, threads } of engines) console.log(`${name}_${threads} ${threads} ${rate(name, threads).toFixed(1)} tokens/s`)
for (const name of new Set(engines.map((e) => e.name).filter((name) => name !== 'native_avx2'))) {
    console.log(`${name}_of_avx2 1 ${(rate(name, 1) / rate('native_avx2', 1)).toFixed(3)} ratio`)
    console.log(`${name}_scaling 2 ${(rate(name, 2) / rate(name, 1)).toFixed(3)} ratio`)
}
for (const { kalm } of engines) kalm.free()
