/* The page in Firefox (firefox-esr of Debian, or FIREFOX), driven by WebDriver BiDi: it loads, ranks as native does, keeps what it
   read, and works offline where it has a service worker. page.test.mjs has the details, in Chromium. */
import assert from 'node:assert/strict'
import { after, before, test } from 'node:test'
import puppeteer from 'puppeteer-core'
import { serve } from '../serve.mjs'
import { native, passages, queries, tinyPath } from './common.mjs'

let browser
const servers = []
before(async () => {
    browser = await puppeteer.launch({ browser: 'firefox', executablePath: process.env.FIREFOX || '/usr/bin/firefox-esr', headless: true })
})
/* also where a test has failed: what listens would keep this process from ending */
after(async () => {
    await browser?.close()
    for (const server of servers) {
        server.closeAllConnections?.()
        server.close()
    }
})

const ranked = (page) => page.waitForFunction(() => / to rank/.test(document.getElementById('status').textContent), { timeout: 60000 })
const texts = (page) => page.$$eval('#list li .text', (all) => all.map((one) => one.textContent))

/* isolated: with the headers for shared memory, hence threads; there the page does without a service worker in Firefox. */
for (const isolated of [true, false]) test(`${isolated ? 'threads' : 'one thread'}: ranks as native does, keeps what it read${isolated ? '' : ', works offline'}`, async () => {
    const server = await serve({ isolated })
    servers.push(server)
    const page = await browser.newPage()
    const wrong = []
    page.on('pageerror', (error) => wrong.push(String(error)))
    const address = `http://127.0.0.1:${server.address().port}/`
    await page.goto(address)
    await ranked(page)
    await page.evaluate((text, query) => {
        document.getElementById('status').textContent = ''
        document.getElementById('texts').value = text
        document.getElementById('query').value = query
        document.getElementById('go').click()
    }, passages().join('\n'), queries[1])
    await ranked(page)
    const want = await native(tinyPath, queries[1], ['--width', '0', '--kernels', 'scalar'])
    assert.deepEqual((await texts(page)).slice(0, 3), want.slice(0, 3).map((r) => r.text))
    if (!isolated) await page.waitForSelector('html[data-offline=ready]', { timeout: 30000 })
    await page.goto(`${address}?again`)
    await ranked(page)
    assert.match(await page.$eval('#status', (s) => s.textContent), /read before/, 'documents of another visit')
    server.closeAllConnections()
    await new Promise((resolve) => server.close(resolve))
    if (!isolated) {
        await page.goto(`${address}?offline`)
        await ranked(page)
        assert.ok((await texts(page)).length > 10)
    }
    assert.deepEqual(wrong, [])
    await page.close()
})
