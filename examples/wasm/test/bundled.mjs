/* What the tests of bundlers share: a program that loads the installed package in every way, and the browser that opens what was made
   of it. Needs playwright-core beside this folder, and Chromium. */
import assert from 'node:assert/strict'
import { chromium } from 'playwright-core'
import { serve } from '../serve.mjs'

export const IMPORTS = "import { Kalm } from 'kalm-rerank'\nimport { KalmWorker } from 'kalm-rerank/worker'\n"
/* A function that ranks with /tiny.kalm: the builds that were loaded, each with the number of the best text. */
export const TRY = `async () => {
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
/* The whole program of a page that has #words. */
export const PROGRAM = `${IMPORTS}(${TRY})().then((words) => { document.getElementById('words').textContent = words })`
/* Such a page; script: what stands for the program. */
export const page = (script) => `<!doctype html><title>bundled</title><link rel="icon" href="data:,"><p id="words"></p>${script}`

export const openBrowser = () => chromium.launch({ executablePath: process.env.CHROMIUM || '/usr/bin/chromium', headless: true,
    args: ['--headless', '--no-sandbox', '--disable-gpu', '--no-first-run'] })

/* What the page in `root` says in #words, served with and without the headers that give it threads. */
export async function works(browser, root) {
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
