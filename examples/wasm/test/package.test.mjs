/* What `npm pack` makes: complete, small, usable from another folder, typed. */
import assert from 'node:assert/strict'
import { mkdtempSync, rmSync, writeFileSync, existsSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import { here, install, run as runIn, tinyPath } from './common.mjs'

const KINDS = ['plain', 'simd', 'relaxed']

test('the packed package works where it is installed, and its types hold', () => {
    const folder = mkdtempSync(join(tmpdir(), 'kalm-package-'))
    const run = (command, args) => runIn(command, args, folder)
    try {
        const made = install(folder)
        const names = made.files.map((file) => file.path)
        const library = process.platform === 'linux' ? 'glibc.' : ''
        for (const need of ['package.json', 'README.md', 'LICENSE', 'kalm.mjs', 'kalm.cjs', 'kalm.node.mjs', 'kalm.d.mts', 'kalm.d.cts', 'native.mjs',
            'node.mjs', 'worker.mjs', 'worker.cjs', 'worker.node.mjs', 'worker.d.mts', 'worker.d.cts', 'worker-thread.mjs',
            `prebuilds/${process.platform}-${process.arch}/kalm-rerank.${library}node`, ...KINDS.flatMap((b) => [b, `${b}-threads`]).map((b) => `dist/kalm_rerank-${b}.wasm`),
            ...KINDS.flatMap((b) => ['js', 'worker.js'].map((end) => `dist/kalm_rerank-${b}-threads.${end}`))])
            assert.ok(names.includes(need), `${need} is missing`)
        assert.deepEqual(names.filter((name) => /\.kalm$|test|shots|node_modules/.test(name)), [])
        assert.ok(made.unpackedSize < 4e6, `${made.unpackedSize} bytes`)

        writeFileSync(join(folder, 'use.mjs'), `
            import { Kalm, KalmError } from '${made.name}'
            import { KalmWorker } from '${made.name}/worker'
            for (const options of [{}, { backend: 'wasm', threads: 1 }, { backend: 'wasm', threads: 2 }, { simd: false, threads: 1 }]) {
                const kalm = await Kalm.load(process.argv[2], options)
                const [best] = await kalm.rerank('capital of China', ['Gravity pulls.', 'The capital of China is Beijing.'])
                console.log(best.index, kalm.info.build)
                if (options.threads === 1) kalm.free()        /* those with threads must not keep the program alive */
            }
            for (const backend of ['native', 'wasm']) {
            const far = await KalmWorker.load(process.argv[2], { threads: 1, backend })
            console.log((await far.rerank('capital of China', ['The capital of China is Beijing.'])).length, far.info.build)
            }
            try { await Kalm.load('nowhere.kalm') } catch (e) { console.log(e instanceof KalmError, e.code) }
        `)
        const best = parseFloat(run('node', ['-p', 'process.versions.v8'])) >= 11.4 ? 'relaxed' : 'simd'
        assert.equal(run('node', ['use.mjs', tinyPath]), `1 native\n1 ${best}\n1 ${best}-threads\n1 plain\n1 native\n1 ${best}\ntrue CANNOT_READ\n`)

        writeFileSync(join(folder, 'use.mts'), `
            import Default, { Kalm, KalmError, features, type Ranked, type KalmCode } from '${made.name}'
            import { KalmWorker } from '${made.name}/worker'
            const kalm: Kalm = await Default.load(new Blob([]), { threads: 2, relaxed: false, onProgress: ({ loaded, total }) => void (loaded / total) })
            const docs: Uint8Array[] = await kalm.encode(['a'], { ratio: 4, bits: 8 })
            const one: Uint8Array = await kalm.encode('a')
            const small: Uint8Array[] = await Promise.all(([4, 3, 2] as const).map((bits) => kalm.encode('a', { bits })))
            small.push(kalm.repool(one, 8, 2))
            const ranked: Ranked[] = await kalm.rerank('q', ['a', one, ...docs], { topK: 3, signal: new AbortController().signal })
            const ids: Int32Array = kalm.tokenize(ranked[0].cut ? 'a' : 'b')
            const cuts: boolean[] = ranked.flatMap((r) => [r.cut, r.cutDocument, r.cutQuery])
            await Kalm.load(new URL('https://localhost/'), { timeout: 5000, assets: 'https://localhost/dist' })
            const text: string = kalm.detokenize(ids) + kalm.info.fingerprint + String(features().simd && features().relaxed)
            const far = await KalmWorker.load(text, { transfer: true })
            const code: KalmCode | undefined = (new KalmError('BAD_FILE', 'x')).code
            // @ts-expect-error bits are 32, 16, 8, 4, 3 or 2
            kalm.encode('a', { bits: 7 })
            // @ts-expect-error the query is a string
            kalm.rerank(5, [])
            export { far, code, cuts }
        `)
        const tsc = here('node_modules/typescript/bin/tsc')
        assert.ok(existsSync(tsc), 'typescript is needed: npm install --no-save --no-package-lock typescript')
        run('node', [tsc, '--noEmit', '--strict', '--module', 'nodenext', '--target', 'es2022', '--lib', 'es2022,dom', 'use.mts'])

        /* no DOM library, no types of Node */
        writeFileSync(join(folder, 'bare.mts'), `
            import { Kalm, type Ranked } from '${made.name}'
            const kalm = await Kalm.load(new Uint8Array(5), { threads: 1 })
            export const ranked: Ranked[] = await kalm.rerank('q', ['a'])
            // @ts-expect-error a model is no number
            Kalm.load(5)
        `)
        run('node', [tsc, '--noEmit', '--strict', '--module', 'nodenext', '--target', 'es2022', '--lib', 'es2022', 'bare.mts'])

        /* CommonJS: the module itself where the engine can require it (node 20.19, 22.12, or later), else kalm.cjs */
        writeFileSync(join(folder, 'use.cjs'), `
            const { Kalm, KalmError, default: Default } = require('${made.name}')
            const { KalmWorker } = require('${made.name}/worker')
            const main = async () => {
                const kalm = await Kalm.load(process.argv[2])
                const [best] = await kalm.rerank('capital of China', ['Gravity pulls.', 'The capital of China is Beijing.'])
                console.log(best.index, kalm.info.build, kalm instanceof Kalm, Default === Kalm)
                await kalm.encode(['x'], { bits: 7 }).catch((error) => console.log(error instanceof KalmError, error.code, new Error('x') instanceof KalmError))
                const far = await KalmWorker.load(process.argv[2])
                console.log(far.info.build)
            }
            main()
        `)
        const said = '1 native true true\ntrue BAD_ARGUMENT false\nnative\n'
        assert.equal(run('node', ['--no-warnings', 'use.cjs', tinyPath]), said)
        writeFileSync(join(folder, 'old.cjs'), `require('module')._resolveFilename = ((old) => (name, ...rest) => name.startsWith('${made.name}')
            ? require('path').join(__dirname, 'node_modules/${made.name}', name.endsWith('worker') ? 'worker.cjs' : 'kalm.cjs') : old(name, ...rest))(
            require('module')._resolveFilename)\nrequire('./use.cjs')`)
        assert.equal(run('node', ['--no-warnings', 'old.cjs', tinyPath]), said)
        writeFileSync(join(folder, 'use.cts'), `
            import { Kalm, KalmError, type Ranked } from '${made.name}'
            import { KalmWorker } from '${made.name}/worker'
            export const rank = async (): Promise<Ranked[]> => (await Kalm.load('x', { backend: 'native', mmap: false })).rerank('q', ['a'])
            export const far = async (): Promise<string> => (await KalmWorker.load('x')).info.build
            export const is = (error: unknown): boolean => error instanceof KalmError && error.code === 'BAD_FILE'
            // @ts-expect-error native or wasm
            Kalm.load('x', { backend: 'gpu' })
        `)
        for (const module of ['node16', 'nodenext'])
            run('node', [tsc, '--noEmit', '--strict', '--module', module, '--target', 'es2022', '--lib', 'es2022,dom', 'use.cts'])
        writeFileSync(join(folder, 'bundled.ts'), `import { Kalm } from '${made.name}'\nexport const load = (file: File) => Kalm.load(file)`)
        run('node', [tsc, '--noEmit', '--strict', '--module', 'esnext', '--moduleResolution', 'bundler', '--target', 'es2022', '--lib', 'es2022,dom', 'bundled.ts'])
    } finally {
        rmSync(folder, { recursive: true, force: true })
    }
})
