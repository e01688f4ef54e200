/* Pages made of the installed package by webpack and by Next, as README.md says, in headless Chromium. Needs `npm ci` in frameworks/,
   playwright-core beside this folder, and Chromium. Next's page is a client component, which the server renders too, and a route that
   ranks with the native addon while the site is built. */
import assert from 'node:assert/strict'
import { after, before, test } from 'node:test'
import { copyFileSync, mkdirSync, mkdtempSync, rmSync, writeFileSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { chromium } from 'playwright-core'
import { serve } from '../serve.mjs'
import { here, install, run, tinyPath } from './common.mjs'

const home = here('test/frameworks')
process.env.NEXT_TELEMETRY_DISABLED = '1'
const TRY = `async () => {
    const words = []
    try {
        for (const [load, options] of [[Kalm.load, {}], [Kalm.load, { threads: 2 }], [KalmWorker.load, { threads: 1 }], [KalmWorker.load, { threads: 2 }]]) {
            if (options.threads > 1 && !crossOriginIsolated) continue
            const kalm = await load('/tiny.kalm', { timeout: 20000, relaxed: false, ...options })
            words.push(kalm.info.build + (await kalm.rerank('capital of China', ['Gravity pulls.', 'The capital of China is Beijing.']))[0].index)
            kalm.free()
        }
    } catch (error) {
        words.push(String(error))
    }
    return words.join(' ')
}`
const IMPORTS = "import { Kalm } from 'kalm-rerank'\nimport { KalmWorker } from 'kalm-rerank/worker'\n"
let folder, browser
before(async () => {
    folder = mkdtempSync(join(home, 'try-'))       /* below its node_modules */
    install(folder)
    browser = await chromium.launch({ executablePath: process.env.CHROMIUM || '/usr/bin/chromium', headless: true,
        args: ['--headless', '--no-sandbox', '--disable-gpu', '--no-first-run'] })
})
after(async () => {
    await browser?.close()
    rmSync(folder, { recursive: true, force: true })
})

/* What the page in `root` says in #words, served with and without the headers that give it threads. */
async function works(root) {
    for (const isolated of [true, false]) {
        const server = await serve({ root, isolated })
        const page = await browser.newPage(), wrong = []
        page.on('pageerror', (error) => wrong.push(String(error)))
        page.on('requestfailed', (request) => wrong.push(request.url()))
        page.on('response', (response) => { if (response.status() !== 200) wrong.push(`${response.status()} ${response.url()}`) })
        try {
            await page.goto(`http://127.0.0.1:${server.address().port}/`)
            await page.waitForFunction(() => document.getElementById('words')?.textContent, null, { timeout: 60000 })
            assert.equal(await page.locator('#words').textContent(), isolated ? 'simd1 simd-threads1 simd1 simd-threads1' : 'simd1 simd1')
            assert.deepEqual(wrong, [])
        } finally {
            await page.close()
            server.closeAllConnections?.()
            server.close()
        }
    }
}

test('webpack', async () => {
    const out = join(folder, 'out-webpack')
    writeFileSync(join(folder, 'app.mjs'), `${IMPORTS}(${TRY})().then((words) => { document.getElementById('words').textContent = words })`)
    writeFileSync(join(folder, 'build.mjs'), `
        import webpack from 'webpack'
        webpack({ mode: 'production', entry: './app.mjs', output: { path: ${JSON.stringify(out)} } }, (error, stats) => {
            if (error || stats.hasErrors()) throw error ?? new Error(stats.toString())
        })`)
    run('node', ['build.mjs'], folder)
    writeFileSync(join(out, 'index.html'), '<!doctype html><title>webpack</title><link rel="icon" href="data:,"><p id="words"></p><script src="main.js"></script>')
    copyFileSync(tinyPath, join(out, 'tiny.kalm'))
    await works(out)
})

for (const builder of ['turbopack', 'webpack']) test(`Next, by ${builder}`, async () => {
    const site = join(folder, builder)
    for (const part of ['app/native', 'public']) mkdirSync(join(site, part), { recursive: true })
    copyFileSync(tinyPath, join(site, 'public', 'tiny.kalm'))
    writeFileSync(join(site, 'package.json'), '{ "private": true, "type": "module" }')
    writeFileSync(join(site, 'next.config.mjs'), `export default { output: 'export', serverExternalPackages: ['kalm-rerank'],
        turbopack: { root: ${JSON.stringify(home)} }, outputFileTracingRoot: ${JSON.stringify(home)} }`)
    writeFileSync(join(site, 'app', 'layout.jsx'),
        'export default function Layout({ children }) { return <html lang="en"><head><link rel="icon" href="data:," /></head><body>{children}</body></html> }')
    writeFileSync(join(site, 'app', 'page.jsx'), `'use client'
        import { useEffect, useState } from 'react'
        ${IMPORTS}
        const rank = ${TRY}
        export default function Page() {
            const [words, setWords] = useState('')
            useEffect(() => { rank().then(setWords) }, [])
            return <p id="words">{words}</p>
        }`)
    writeFileSync(join(site, 'app', 'native', 'route.js'), `
        import { Kalm } from 'kalm-rerank'
        export const dynamic = 'force-static'
        export async function GET() {
            const kalm = await Kalm.load(process.cwd() + '/public/tiny.kalm')
            const [best] = await kalm.rerank('capital of China', ['Gravity pulls.', 'The capital of China is Beijing.'])
            return new Response(kalm.info.build + best.index)
        }`)
    run('node', [join(home, 'node_modules/next/dist/bin/next'), 'build', ...builder === 'webpack' ? ['--webpack'] : []], site)
    assert.equal(readFileSync(join(site, 'out', 'native'), 'utf8'), 'native1')
    await works(join(site, 'out'))
})
