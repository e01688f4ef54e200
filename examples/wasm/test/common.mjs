/* What the tests share: paths, the native command to compare with, and model files made wrong on purpose. */
import { execFile, execFileSync } from 'node:child_process'
import { mkdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'

export const here = (path) => fileURLToPath(new URL(`../${path}`, import.meta.url))
export const tinyPath = here('dist/tiny.kalm')
/* The same model in float32: build.sh makes it, the page and the package do not need it. */
export const floatPath = here('dist/tiny-f32.kalm')
export const tiny = () => new Uint8Array(readFileSync(tinyPath))
export const passages = () => readFileSync(here('../demo.txt'), 'utf8').trim().split('\n')
export const queries = ['program to retouch photos', 'play chess against the computer', 'backup files to another machine']

/* The same query on the native command: [{ index, margin, score, cut }], best first. */
export async function native(model, query, options = []) {
    const { stdout } = await promisify(execFile)(here('../../build/kalm-rerank'),
        [model, query, '--documents', here('../demo.txt'), '--json', '--threads', '1', ...options])
    return JSON.parse(stdout).results
}

/* A command's standard output. */
export const run = (command, args, cwd) => execFileSync(command, args, { cwd, encoding: 'utf8', stdio: ['ignore', 'pipe', 'inherit'] })

/* Documents of 4, 3 and 2 bits a number as the C library makes them (tests/targets.c, which is compiled here):
   { query, texts, options, context, want: 'bits document' -> { sum, margin } }. */
export function fewBits() {
    const program = here('../../build/wasm-targets')
    execFileSync('cc', ['-std=c99', '-O1', `-I${here('../..')}`, here('../../tests/targets.c'), '-o', program, '-lm', '-lpthread'])
    const [query, ...texts] = readFileSync(here('../../tests/targets.tsv'), 'utf8').split('\n')[0].split('\t')
    const lines = run(program, ['rows', tinyPath, here('../../tests/targets.tsv')]).trim().split('\n').map((line) => line.split(' '))
    const want = new Map(lines.map(([, , bits, document, sum, margin]) => [`${bits} ${document}`, { sum, margin: Math.fround(Number(margin)) }]))
    return { query, texts, options: { ratio: 2 }, context: { maxDocTokens: 48 }, want }
}

/* A document with its checksum made right again (src/documents.h), as a forger would. */
export function sealed(bytes) {
    const view = new DataView(bytes.buffer, bytes.byteOffset)
    view.setBigUint64(40, 0n, true)
    view.setBigUint64(40, hash(bytes), true)
    return bytes
}

/* The package as npm packs it, installed in `folder`: what npm says of it. */
export function install(folder) {
    /* --ignore-scripts: dist/ is built already */
    const [made] = JSON.parse(run('npm', ['pack', '--json', '--ignore-scripts', '--pack-destination', folder], here('.')))
    const home = join(folder, 'node_modules', made.name)
    mkdirSync(home, { recursive: true })
    run('tar', ['xzf', join(folder, made.filename), '--strip-components=1', '-C', home], folder)
    return made
}

/* kalm__hash of src/base.h */
export function hash(bytes) {
    const mask = (1n << 64n) - 1n, A = 0x9e3779b97f4a7c15n, B = 0xc2b2ae3d27d4eb4fn
    const mix = (lane, word) => {
        const x = (lane ^ word) * A & mask
        return x ^ x >> 29n
    }
    const padded = new Uint8Array(Math.ceil(bytes.length / 64) * 64)
    padded.set(bytes)
    const words = new BigUint64Array(padded.buffer)
    const lanes = Array.from({ length: 8 }, (_, i) => BigInt(i + 1) * A & mask)
    for (let i = 0; i < words.length; i++) lanes[i % 8] = mix(lanes[i % 8], words[i])
    let sum = BigInt(bytes.length) * B & mask
    for (const lane of lanes) sum = mix(sum, lane) * B & mask
    return sum ^ sum >> 32n
}

/* The model with its weights, and what lies behind them, moved `gap` bytes further into the file (src/format.h draws the layout):
   { size, chunks() }. A whole file of `gap` zeros that nobody has to store. */
export function stretched(model, gap) {
    const STRINGS = 2, TENSORS = 3, WEIGHTS = 5, ROWS = 6
    const bytes = model.slice(), view = new DataView(bytes.buffer)
    const add = (at) => view.setBigUint64(at, view.getBigUint64(at, true) + BigInt(gap), true)
    const sections = Array.from({ length: view.getUint32(12, true) }, (_, i) => {
        const at = 64 + 32 * i
        return { at, type: view.getUint32(at, true), offset: Number(view.getBigUint64(at + 8, true)),
            size: Number(view.getBigUint64(at + 16, true)) }
    })
    const weights = sections.find((s) => s.type === WEIGHTS), tensors = sections.find((s) => s.type === TENSORS)
    add(16)
    for (const s of sections) if (s.offset >= weights.offset) add(s.at + 8)
    for (let at = tensors.offset; at < tensors.offset + tensors.size; at += 64)
        for (const field of [24, 40, 48]) if (view.getBigUint64(at + field, true)) add(at + field)
    view.setBigUint64(tensors.at + 24, hash(bytes.subarray(tensors.offset, tensors.offset + tensors.size)), true)
    const kept = sections.filter((s) => s.type !== STRINGS && s.type !== ROWS).flatMap((s) => [...bytes.subarray(s.at, s.at + 32)])
    view.setBigUint64(24, hash(Uint8Array.from(kept)), true)
    view.setBigUint64(32, 0n, true)
    view.setBigUint64(32, hash(bytes.subarray(0, 64 + 32 * sections.length)), true)
    return {
        size: bytes.length + gap,
        async* chunks() {
            const zeros = new Uint8Array(1 << 24)
            yield bytes.subarray(0, weights.offset)
            for (let left = gap; left; left -= Math.min(left, zeros.length)) yield zeros.subarray(0, left)
            yield bytes.subarray(weights.offset)
        }
    }
}
