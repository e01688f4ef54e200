/* A page and a Worker made of the installed package by esbuild and by vite, as README.md says, in headless Chromium; a bundle for
   Node. Needs esbuild, vite and playwright-core beside it (npm install --no-save --no-package-lock) and Chromium. */
import assert from 'node:assert/strict'
import { after, before, test } from 'node:test'
import { copyFileSync, cpSync, mkdirSync, mkdtempSync, readFileSync, readdirSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { PROGRAM, openBrowser, page, works } from './bundled.mjs'
import { here, install, run, tinyPath } from './common.mjs'

const tool = (name) => here(`node_modules/.bin/${name}`)
let folder, browser
before(async () => {
    folder = mkdtempSync(join(tmpdir(), 'kalm-bundlers-'))
    install(folder)
    writeFileSync(join(folder, 'package.json'), '{ "type": "module" }')
    writeFileSync(join(folder, 'index.html'), page('<script type="module" src="./app.mjs"></script>'))
    writeFileSync(join(folder, 'app.mjs'), PROGRAM)
    browser = await openBrowser()
})
after(async () => {
    await browser?.close()
    rmSync(folder, { recursive: true, force: true })
})

/* The site in `root`, with the model beside it. */
async function serves(root) {
    copyFileSync(tinyPath, join(root, 'tiny.kalm'))
    await works(browser, root)
}

test('esbuild', async () => {
    const out = join(folder, 'esbuild')
    run(tool('esbuild'), ['app.mjs', 'worker-thread=node_modules/kalm-rerank/worker-thread.mjs', '--bundle', '--format=esm',
        '--out-extension:.js=.mjs', `--outdir=${out}`, '--log-level=warning'], folder)
    cpSync(join(folder, 'node_modules/kalm-rerank/dist'), join(out, 'dist'), { recursive: true })
    copyFileSync(join(folder, 'index.html'), join(out, 'index.html'))
    for (const file of ['app.mjs', 'worker-thread.mjs']) assert.doesNotMatch(readFileSync(join(out, file), 'utf8'), /node:/)
    await serves(out)
})

for (const format of ['', 'es']) test(`vite${format ? `, Workers as ${format}` : ''}`, async () => {
    const out = join(folder, `vite${format}`)
    writeFileSync(join(folder, 'vite.config.mjs'), `export default { base: './', logLevel: 'error', build: { outDir: ${JSON.stringify(out)} } ${format
        ? `, worker: { format: '${format}' }` : ''} }`)
    run(tool('vite'), ['build'], folder)
    for (const file of readdirSync(join(out, 'assets')).filter((name) => /^(index|worker-thread)/.test(name)))
        assert.doesNotMatch(readFileSync(join(out, 'assets', file), 'utf8'), /node:/)
    await serves(out)
})

test('a bundle for Node', () => {
    const out = join(folder, 'node')
    mkdirSync(out)
    writeFileSync(join(folder, 'program.mjs'), `
        import { Kalm } from 'kalm-rerank'
        for (const options of [{}, { threads: 2, relaxed: false }]) {
            const kalm = await Kalm.load(process.argv[2], options)
            console.log(kalm.info.build, (await kalm.rerank('capital of China', ['Gravity pulls.', 'The capital of China is Beijing.']))[0].index)
        }
    `)
    run(tool('esbuild'), ['program.mjs', '--bundle', '--platform=node', '--format=esm', `--outfile=${join(out, 'program.mjs')}`,
        '--log-level=warning'], folder)
    for (const part of ['dist', 'prebuilds']) cpSync(join(folder, `node_modules/kalm-rerank/${part}`), join(out, part), { recursive: true })
    assert.equal(run('node', ['program.mjs', tinyPath], out), 'native 1\nsimd-threads 1\n')
    rmSync(join(out, 'prebuilds'), { recursive: true })
    assert.match(run('node', ['program.mjs', tinyPath], out), /^(simd|relaxed)(-threads)? 1\nsimd-threads 1\n$/)
    run(tool('vite'), ['build', '--ssr', 'program.mjs', '--outDir', join(folder, 'ssr'), '--logLevel', 'error'], folder)
    assert.equal(run('node', [readdirSync(join(folder, 'ssr')).filter((name) => /^program/.test(name))[0], tinyPath], join(folder, 'ssr')),
        'native 1\nsimd-threads 1\n')
})
