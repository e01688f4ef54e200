/* What `npm pack` makes: complete, small, usable from another folder, typed. */
import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { mkdtempSync, rmSync, writeFileSync, existsSync, mkdirSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import { here, tinyPath } from './common.mjs'

const KINDS = ['plain', 'simd', 'relaxed']

test('the packed package works where it is installed, and its types hold', () => {
    const folder = mkdtempSync(join(tmpdir(), 'kalm-package-'))
    const run = (command, args, cwd = folder) => execFileSync(command, args, { cwd, encoding: 'utf8', stdio: ['ignore', 'pipe', 'inherit'] })
    try {
        /* --ignore-scripts: dist/ is built already */
        const [made] = JSON.parse(run('npm', ['pack', '--json', '--ignore-scripts', '--pack-destination', folder], here('.')))
        const names = made.files.map((file) => file.path)
        for (const need of ['package.json', 'README.md', 'LICENSE', 'kalm.mjs', 'kalm.d.mts', 'worker.mjs', 'worker.d.mts',
            'worker-thread.mjs', ...KINDS.flatMap((b) => [b, `${b}-threads`]).map((b) => `dist/kalm_rerank-${b}.wasm`),
            ...KINDS.flatMap((b) => ['js', 'worker.js'].map((end) => `dist/kalm_rerank-${b}-threads.${end}`))])
            assert.ok(names.includes(need), `${need} is missing`)
        assert.deepEqual(names.filter((name) => /\.kalm$|test|shots|node_modules/.test(name)), [])
        assert.ok(made.unpackedSize < 2e6, `${made.unpackedSize} bytes`)

        const home = join(folder, 'node_modules', made.name)
        mkdirSync(home, { recursive: true })
        run('tar', ['xzf', join(folder, made.filename), '--strip-components=1', '-C', home])
        writeFileSync(join(folder, 'use.mjs'), `
            import { Kalm, KalmError } from '${made.name}'
            import { KalmWorker } from '${made.name}/worker'
            for (const options of [{ threads: 1 }, { threads: 2 }, { simd: false, threads: 1 }]) {
                const kalm = await Kalm.load(process.argv[2], options)
                const [best] = await kalm.rerank('capital of China', ['Gravity pulls.', 'The capital of China is Beijing.'])
                console.log(best.index, kalm.info.build)
                if (options.threads === 1) kalm.free()        /* the one with threads must not keep the program alive */
            }
            const far = await KalmWorker.load(process.argv[2], { threads: 1 })
            console.log((await far.rerank('capital of China', ['The capital of China is Beijing.'])).length, far.info.build)
            try { await Kalm.load('nowhere.kalm') } catch (e) { console.log(e instanceof KalmError, e.code) }
        `)
        const best = parseFloat(run('node', ['-p', 'process.versions.v8'])) >= 11.4 ? 'relaxed' : 'simd'
        assert.equal(run('node', ['use.mjs', tinyPath]), `1 ${best}\n1 ${best}-threads\n1 plain\n1 ${best}\ntrue CANNOT_READ\n`)

        writeFileSync(join(folder, 'use.mts'), `
            import Default, { Kalm, KalmError, features, type Ranked, type KalmCode } from '${made.name}'
            import { KalmWorker } from '${made.name}/worker'
            const kalm: Kalm = await Default.load(new Blob([]), { threads: 2, relaxed: false, onProgress: ({ loaded, total }) => void (loaded / total) })
            const docs: Uint8Array[] = await kalm.encode(['a'], { ratio: 4, bits: 8 })
            const one: Uint8Array = await kalm.encode('a')
            const ranked: Ranked[] = await kalm.rerank('q', ['a', one, ...docs], { topK: 3, signal: new AbortController().signal })
            const ids: Int32Array = kalm.tokenize(ranked[0].cut ? 'a' : 'b')
            const text: string = kalm.detokenize(ids) + kalm.info.fingerprint + String(features().simd && features().relaxed)
            const far = await KalmWorker.load(text, { transfer: true })
            const code: KalmCode | undefined = (new KalmError('BAD_FILE', 'x')).code
            // @ts-expect-error bits are 32, 16 or 8
            kalm.encode('a', { bits: 7 })
            // @ts-expect-error the query is a string
            kalm.rerank(5, [])
            export { far, code }
        `)
        const tsc = here('node_modules/typescript/bin/tsc')
        assert.ok(existsSync(tsc), 'typescript is needed: npm install --no-save --no-package-lock typescript')
        run('node', [tsc, '--noEmit', '--strict', '--module', 'nodenext', '--target', 'es2022', '--lib', 'es2022,dom', 'use.mts'])
    } finally {
        rmSync(folder, { recursive: true, force: true })
    }
})
