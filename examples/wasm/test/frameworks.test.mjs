/* Pages made of the installed package by webpack and by Next, as README.md says, in headless Chromium. Needs `npm ci` in frameworks/,
   playwright-core beside this folder, and Chromium. Next's page is a client component, which the server renders too, and a route that
   ranks with the native addon while the site is built. */
import assert from 'node:assert/strict'
import { after, before, test } from 'node:test'
import { copyFileSync, mkdirSync, mkdtempSync, rmSync, writeFileSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { IMPORTS, PROGRAM, TRY, openBrowser, page, works } from './bundled.mjs'
import { here, install, run, tinyPath } from './common.mjs'

const home = here('test/frameworks')
process.env.NEXT_TELEMETRY_DISABLED = '1'
let folder, browser
before(async () => {
    folder = mkdtempSync(join(home, 'try-'))       /* below its node_modules */
    install(folder)
    browser = await openBrowser()
})
after(async () => {
    await browser?.close()
    rmSync(folder, { recursive: true, force: true })
})

test('webpack', async () => {
    const out = join(folder, 'out-webpack')
    writeFileSync(join(folder, 'app.mjs'), PROGRAM)
    writeFileSync(join(folder, 'build.mjs'), `
        import webpack from 'webpack'
        webpack({ mode: 'production', entry: './app.mjs', output: { path: ${JSON.stringify(out)} } }, (error, stats) => {
            if (error || stats.hasErrors()) throw error ?? new Error(stats.toString())
        })`)
    run('node', ['build.mjs'], folder)
    writeFileSync(join(out, 'index.html'), page('<script src="main.js"></script>'))
    copyFileSync(tinyPath, join(out, 'tiny.kalm'))
    await works(browser, out)
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
    await works(browser, join(site, 'out'))
})
