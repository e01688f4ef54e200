/* The page in headless Chromium. Needs playwright-core beside it (npm install --no-save --no-package-lock playwright-core)
   and Chromium: CHROMIUM, or /usr/bin/chromium. SHOTS=folder keeps the pictures. */
import assert from 'node:assert/strict'
import { after, before, test } from 'node:test'
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { chromium } from 'playwright-core'
import { serve } from '../serve.mjs'
import { here, native, passages, queries, tinyPath, tiny } from './common.mjs'

const shots = process.env.SHOTS || here('dist/shots')
mkdirSync(shots, { recursive: true })

let browser, servers = []
before(async () => {
    browser = await chromium.launch({
        executablePath: process.env.CHROMIUM || '/usr/bin/chromium', headless: true,
        args: ['--headless', '--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking',
            '--disable-component-update', '--disable-sync']
    })
})
after(async () => {
    await browser?.close()
    for (const server of servers) {
        server.closeAllConnections?.()
        server.close()
    }
})

/* A page that is loaded and has ranked its examples; what it logs or throws fails the test at the end. */
async function open(options = {}, { isolated = true, path = '/' } = {}) {
    const server = await serve({ isolated })
    servers.push(server)
    const context = await browser.newContext({ viewport: { width: 1280, height: 900 }, reducedMotion: 'reduce', ...options })
    const page = await context.newPage()
    const wrong = [], foreign = []
    page.on('pageerror', (error) => wrong.push(String(error)))
    page.on('console', (message) => {
        /* Emscripten's words about threads on the page itself, which one test asks for */
        if (['error', 'warning'].includes(message.type()) && !/^Blocking on the main thread/.test(message.text())) wrong.push(message.text())
    })
    const origin = `http://127.0.0.1:${server.address().port}`
    page.on('request', (request) => {
        if (!/^(data|blob):/.test(request.url()) && !request.url().startsWith(origin)) foreign.push(request.url())
    })
    await page.goto(origin + path)
    await ranked(page)
    return {
        page,
        async done() {
            assert.deepEqual(wrong, [], 'nothing in the console')
            assert.deepEqual(foreign, [], 'nothing from elsewhere')
            await context.close()
        }
    }
}

const status = (page) => page.locator('#status').textContent()
/* Wait for a ranking to be over; `act` starts it. */
async function ranked(page, act) {
    if (act) {
        await page.evaluate(() => { document.getElementById('status').textContent = '' })
        await act()
    }
    await page.waitForFunction(() => / to rank/.test(document.getElementById('status').textContent), null, { timeout: 60000 })
}
const rows = (page) => page.$$eval('#list li', (items) => items.map((li) => ({
    text: li.querySelector('.text').textContent, score: Number(li.querySelector('.score').textContent),
    margin: Number(li.querySelector('.margin').textContent.replace('−', '-').replace(/[^-0-9.]/g, ''))
})))
/* A file let go over the page, as a hand would */
const drop = async (page, name, bytes, type = '') => {
    const data = await page.evaluateHandle(([n, base64, t]) => {
        const transfer = new DataTransfer()
        transfer.items.add(new File([Uint8Array.from(atob(base64), (c) => c.charCodeAt(0))], n, { type: t }))
        return transfer
    }, [name, Buffer.from(bytes).toString('base64'), type])
    await page.dispatchEvent('body', 'dragenter', { dataTransfer: data })
    assert.equal(await page.locator('#drop').isVisible(), true)
    await page.dispatchEvent('body', 'dragover', { dataTransfer: data })
    await page.dispatchEvent('body', 'drop', { dataTransfer: data })
    assert.equal(await page.locator('#drop').isVisible(), false)
}
const noSideways = async (page) => assert.equal(await page.evaluate(
    () => document.documentElement.scrollWidth <= document.documentElement.clientWidth), true, 'nothing sticks out')

test('loads, ranks as native does, and follows query and ratio', async () => {
    const { page, done } = await open()
    assert.match(await page.locator('#model-name').textContent(), /^tiny$/)
    assert.match(await page.locator('#machine').textContent(), /relaxed SIMD.*thread/)
    assert.equal(await page.evaluate(() => crossOriginIsolated), true)
    await page.fill('#texts', passages().join('\n'))
    for (const [i, query] of queries.entries()) {
        await page.fill('#query', query)
        await ranked(page, () => i ? page.click('#go') : page.press('#query', 'Enter'))
        const got = await rows(page), want = await native(tinyPath, query, ['--width', '0', '--kernels', 'scalar'])
        assert.equal(got.length, 15)
        assert.equal(got[0].text, want[0].text)
        assert.ok(Math.abs(got[0].margin - want[0].margin) < 0.05, `margin ${got[0].margin}, native ${want[0].margin}`)
        got.reduce((a, b) => (assert.ok(a.margin >= b.margin), b))
    }
    await page.mouse.move(640, 5)
    await page.evaluate(() => {
        document.activeElement.blur()
        document.getElementById('texts').scrollTop = 0
        scrollTo(0, 0)
    })
    await page.screenshot({ path: join(shots, 'desktop.png') })

    const before = await rows(page)
    await page.focus('#ratio')
    await ranked(page, () => page.keyboard.press('End'))
    assert.equal(await page.locator('#ratio-text').textContent(), '32 tokens a row')
    assert.equal(await page.getAttribute('#ratio', 'aria-valuetext'), '32 tokens a row')
    assert.match(await status(page), /read before/, 'no text is read again for another ratio')
    assert.notDeepEqual(await rows(page), before)
    await ranked(page, () => page.keyboard.press('Home'))
    assert.equal(await page.locator('#ratio-text').textContent(), '1 token a row')

    await page.fill('#instruction', 'Find games.')
    await ranked(page, () => page.click('#go'))
    await page.fill('#texts', '')
    await page.click('#go')
    await page.waitForFunction(() => /Add some documents/.test(document.getElementById('status').textContent))
    await ranked(page, () => page.click('#examples'))
    await ranked(page, () => page.click('#tries button:first-of-type'))
    await done()
})

test('a model by drop and by picker; bad ones give the library\'s sentence and the old one stays', async () => {
    const { page, done } = await open()
    await ranked(page, () => drop(page, 'mine.kalm', tiny()))
    await ranked(page, () => page.setInputFiles('#model-file', tinyPath))
    for (const [name, bytes, text] of [
        ['photo.kalm', new Uint8Array(5000).fill(7), /photo\.kalm cannot be used: not a \.kalm file: it does not begin with the KALM signature/],
        ['half.kalm', tiny().subarray(0, 2000000), /half\.kalm cannot be used: the model file says it has \d+ bytes, it has 2000000/],
        ['empty.kalm', new Uint8Array(0), /empty\.kalm cannot be used: /],
        ['picture.png', Uint8Array.of(0x89, 80, 78, 71, 13, 10, 26, 10), /“picture\.png” is a picture \(PNG\), and documents are texts/],
        ['a.pdf', Buffer.from('%PDF-1.7 and so on'), /“a\.pdf” is a PDF file\. Take its text out first/],
        ['model.safetensors', Buffer.from([16, 0, 0, 0, 0, 0, 0, 0, 123, 125]), /safetensors.*kalm-quantize FOLDER OUT\.kalm/],
        ['nano.gguf', Buffer.from('GGUF....'), /GGUF.*kalm-quantize/]
    ]) {
        await drop(page, name, bytes)
        await page.locator('#error').waitFor({ state: 'visible' })
        await page.waitForFunction((n) => document.getElementById('error-text').textContent.includes(n), name)
        assert.match(await page.locator('#error-text').textContent(), text)
        if (/kalm$/.test(name)) assert.match(await status(page), /still the model in use/)
        if (name === 'photo.kalm') await page.screenshot({ path: join(shots, 'error.png') })
        await page.click('#error-close')
        assert.equal(await page.locator('#error').isVisible(), false)
    }
    await ranked(page, () => page.click('#go'))
    await done()
})

test('documents by drop: text, JSON Lines, mistakes', async () => {
    const { page, done } = await open()
    await ranked(page, () => drop(page, 'two.txt', Buffer.from('A chess program.\n\nAn editor for photos.\n'), 'text/plain'))
    assert.equal((await rows(page)).length, 2)
    assert.equal(await page.inputValue('#texts'), 'A chess program.\nAn editor for photos.')
    const lines = passages().map((text, i) => JSON.stringify({ id: `${i}`, title: `No. ${i}`, text: `${text}\nSecond line.` })).join('\n')
    await ranked(page, () => drop(page, 'some.jsonl', Buffer.from(lines)))
    assert.equal(await page.locator('#set').isVisible(), true)
    assert.match(await page.locator('#set').textContent(), /some\.jsonl.*15 documents/s)
    assert.match((await rows(page))[0].text, /^No\. \d+ .*\nSecond line\.$/s)
    await drop(page, 'bad.jsonl', Buffer.from('{"text": "good"}\n{"text": 5}\n{"text": "better"}\n'))
    await page.locator('#error').waitFor({ state: 'visible' })
    assert.match(await page.locator('#error-text').textContent(), /1 line of “bad\.jsonl” left out: line 2, it has no "text"/)
    assert.equal((await rows(page)).length, 2, 'the good ones are there')
    await drop(page, 'worse.jsonl', Buffer.from('{"text": 5}\n'))
    await page.waitForFunction(() => /worse/.test(document.getElementById('error-text').textContent))
    await page.fill('#texts', 'One text\nof two lines.\n\nAnother text.\n \n\nA third.')
    await ranked(page, () => page.click('#go'))
    assert.deepEqual((await rows(page)).map((r) => r.text).sort(), ['A third.', 'Another text.', 'One text\nof two lines.'])
    await page.fill('#texts', 'One.\nTwo.\n')
    await ranked(page, () => page.click('#go'))
    assert.equal((await rows(page)).length, 2)
    await done()
})

test('never freezes, shows progress, can be cancelled', async () => {
    const { page, done } = await open()
    const many = Array.from({ length: 400 }, (_, i) => `${i} ${passages()[i % 15]} ${passages()[(i + 4) % 15]}`)
    await page.evaluate(() => {                        /* the longest time between two frames */
        let last = performance.now()
        window.longest = 0
        const frame = () => {
            const now = performance.now()
            window.longest = Math.max(window.longest, now - last)
            last = now
            requestAnimationFrame(frame)
        }
        requestAnimationFrame(frame)
    })
    await drop(page, 'many.jsonl', Buffer.from(many.map((text) => JSON.stringify({ text })).join('\n')))
    await page.locator('#work').waitFor({ state: 'visible' })
    await page.waitForFunction(() => document.getElementById('progress').value > 0.01)
    assert.match(await status(page), /Reading 400 documents: \d+ %/)
    await page.click('#cancel')
    await page.waitForFunction(() => document.getElementById('status').textContent === 'Cancelled.', null, { timeout: 3000 })
    assert.equal(await page.locator('#work').isVisible(), false)
    assert.ok(await page.evaluate(() => window.longest) < 1000, 'frames kept coming')
    await ranked(page, () => page.click('#examples'))
    await done()
})

test('phone', async () => {
    const { page, done } = await open({ viewport: { width: 390, height: 844 }, deviceScaleFactor: 2, isMobile: true, hasTouch: true })
    await noSideways(page)
    await page.screenshot({ path: join(shots, 'phone.png') })
    await page.screenshot({ path: join(shots, 'phone-full.png'), fullPage: true })
    assert.ok(await page.evaluate(() => document.querySelector('#list li').getBoundingClientRect().bottom) < 844, 'the best one is on the screen')
    await ranked(page, () => page.tap('#tries button:first-of-type'))
    assert.match((await rows(page))[0].text, /chess/i)
    assert.equal(await page.locator('#texts').isVisible(), false)
    assert.match(await page.locator('#view-documents').textContent(), /Documents 14/)
    await page.tap('#view-documents')
    assert.equal(await page.getAttribute('#view-documents', 'aria-pressed'), 'true')
    const top = await page.evaluate(() => document.getElementById('texts').getBoundingClientRect().top)
    assert.ok(top < 1000, `the documents lie ${top} px down`)
    await noSideways(page)
    await page.screenshot({ path: join(shots, 'phone-documents.png') })
    await page.tap('#view-results')
    for (const box of await page.$$eval('button, label.button', (all) => all.map((b) => [b.textContent.trim(), b.getBoundingClientRect().height])))
        assert.ok(box[1] === 0 || box[1] >= 30, `${box[0]} is ${box[1]} pixels high`)
    await done()
    for (const width of [320, 360]) {
        const small = await open({ viewport: { width, height: 640 }, deviceScaleFactor: 2, isMobile: true, hasTouch: true })
        await noSideways(small.page)
        const at = await small.page.evaluate(() => ['query', 'go', 'view-documents', 'results-title'].map((id) => document.getElementById(id).getBoundingClientRect().bottom))
        assert.ok(at.every((bottom) => bottom <= 640), `${width} x 640: query, button, choice of view and ranking are on the screen: ${at}`)
        await small.page.screenshot({ path: join(shots, `phone-${width}.png`) })
        await small.page.tap('#view-documents')
        const tops = await small.page.evaluate(() => ['texts', 'texts-file', 'texts-folder', 'url'].map((id) => document.getElementById(id).getBoundingClientRect().top))
        assert.ok(tops[0] < 640 && tops.every((top) => top < 1300), `${width} x 640: the documents begin at ${tops}`)
        await noSideways(small.page)
        await small.done()
    }
})

test('dark, by the system and by the button, remembered', async () => {
    const { page, done } = await open({ colorScheme: 'dark' })
    const ground = () => page.evaluate(() => getComputedStyle(document.body).backgroundColor)
    const dark = await ground()
    await page.screenshot({ path: join(shots, 'dark.png') })
    await page.click('#theme')
    assert.notEqual(await ground(), dark)
    await page.reload()
    await ranked(page)
    assert.notEqual(await ground(), dark)
    await page.click('#theme')
    assert.equal(await ground(), dark)
    await done()
})

/* Every element with text of its own against what lies behind it: 4.5 to 1, as WCAG AA has it for normal text. */
const contrast = () => {
    const context = Object.assign(document.createElement('canvas'), { width: 1, height: 1 }).getContext('2d', { willReadFrequently: true })
    const rgba = (color) => {
        context.clearRect(0, 0, 1, 1)
        context.fillStyle = color
        context.fillRect(0, 0, 1, 1)
        return [...context.getImageData(0, 0, 1, 1).data]
    }
    const light = ([r, g, b]) => [r, g, b].map((v) => v / 255).map((v) => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4)
        .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0)
    const behind = (node) => {
        for (; node; node = node.parentElement) {
            const color = rgba(getComputedStyle(node).backgroundColor)
            if (color[3] === 255) return color
        }
        return [255, 255, 255]
    }
    return [...document.querySelectorAll('body *')].filter((node) => node.checkVisibility()
        && [...node.childNodes].some((n) => n.nodeType === 3 && n.data.trim())).flatMap((node) => {
        const a = light(rgba(getComputedStyle(node).color)), b = light(behind(node))
        const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05)
        return ratio < 4.5 ? [`${node.tagName}.${node.className} "${node.textContent.trim().slice(0, 30)}" ${ratio.toFixed(2)}`] : []
    })
}

test('names, order of focus, live regions, contrast', async () => {
    for (const colorScheme of ['light', 'dark']) {
        const { page, done } = await open({ colorScheme })
        await page.evaluate(() => {
            document.getElementById('error').hidden = false
            document.getElementById('error-text').textContent = 'A mistake.'
        })
        assert.deepEqual(await page.evaluate(contrast), [])
        await done()
    }
    const { page, done } = await open()
    const unnamed = await page.$$eval('input, textarea, button, progress, select', (all) => all.filter((control) =>
        !control.labels?.length && !control.getAttribute('aria-label') && !control.textContent.trim()).map((c) => c.outerHTML))
    assert.deepEqual(unnamed, [])
    assert.equal(await page.getAttribute('#status', 'aria-live'), 'polite')
    assert.equal(await page.getAttribute('#error', 'role'), 'alert')
    assert.equal(await page.locator('html').getAttribute('lang'), 'en')
    assert.deepEqual(await page.$$eval('h1, h2', (all) => all.map((h) => h.textContent)), ['kalm_rerank', 'Ranking', 'Documents'])
    const order = []
    for (let i = 0; i < 14; i++) {
        await page.keyboard.press('Tab')
        const [id, seen] = await page.evaluate(() => {
            const at = document.activeElement, shown = at.matches('.file input') ? at.parentElement : at
            const style = getComputedStyle(shown), bar = at.closest('.bar')
            return [at.id || at.textContent.trim(), style.outlineStyle !== 'none' || (bar && getComputedStyle(bar).boxShadow !== 'none')]
        })
        assert.ok(seen, `the focus shows on ${id}`)
        order.push(id)
    }
    assert.deepEqual(order.filter((id) => ['model-file', 'theme', 'query', 'go', 'ratio', 'instruction', 'texts', 'texts-file'].includes(id)),
        ['model-file', 'theme', 'query', 'go', 'ratio', 'instruction', 'texts', 'texts-file'])
    assert.equal(order[0], 'Skip to the ranking')
    await done()
})

test('without the headers for shared memory: one thread, and it still ranks and cancels', async () => {
    const { page, done } = await open({}, { isolated: false })
    assert.equal(await page.evaluate(() => crossOriginIsolated), false)
    assert.match(await page.locator('#machine').textContent(), /1 thread,/)
    await ranked(page, () => page.click('#tries button:first-of-type'))
    assert.match((await rows(page))[0].text, /chess/i)
    const many = Array.from({ length: 400 }, (_, i) => JSON.stringify({ text: `${i} ${passages()[i % 15]}` })).join('\n')
    await drop(page, 'many.jsonl', Buffer.from(many))
    await page.locator('#work').waitFor({ state: 'visible' })
    await page.click('#cancel')
    await page.waitForFunction(() => document.getElementById('status').textContent === 'Cancelled.', null, { timeout: 5000 })
    await done()
})

test('the module API on the page itself, in each build, without a Worker', async () => {
    const { page, done } = await open()
    const want = await native(tinyPath, queries[0], ['--top-k', '5', '--kernels', 'scalar'])
    assert.deepEqual(await page.evaluate(async () => (await import('/kalm.mjs')).features()), { simd: true, relaxed: true, threads: true })
    const kinds = { plain: { simd: false }, simd: { relaxed: false }, relaxed: {} }
    for (const [kind, options] of Object.entries(kinds)) for (const threads of [1, 2]) {
        const [got, build] = await page.evaluate(async ([given, query, texts]) => {
            const { Kalm } = await import('/kalm.mjs')
            const kalm = await Kalm.load('/dist/tiny.kalm', given)
            const result = await kalm.rerank(query, texts, { topK: 5 })
            const { build } = kalm.info
            kalm.free()
            return [result, build]
        }, [{ ...options, threads }, queries[0], passages()])
        assert.equal(build, kind + (threads > 1 ? '-threads' : ''))
        assert.deepEqual(got.map((r) => [r.index, r.margin]), want.map((r) => [r.index, Math.fround(r.margin)]), 'the same bits')
    }
    await done()
})

/* ---- by keyboard alone ---- */

/* Press Tab (or the keys before it) until the element `id` has the focus; every stop on the way must show it. */
async function tabTo(page, id, key = 'Tab') {
    for (let i = 0; i < 60; i++) {
        const at = await page.evaluate(() => document.activeElement.id)
        if (at === id) return
        await page.keyboard.press(key)
        const [name, seen] = await page.evaluate(() => {
            const at = document.activeElement, shown = at.matches('.file input') ? at.parentElement : at
            if (at === document.body) return ['the page', true]
            const style = getComputedStyle(shown), bar = at.closest('.bar'), box = shown.getBoundingClientRect()
            return [at.id || at.textContent.trim(), box.width > 0 && box.bottom > 0 && box.top < innerHeight
                && (style.outlineStyle !== 'none' || (bar && getComputedStyle(bar).boxShadow !== 'none'))]
        })
        assert.ok(seen, `the focus shows, and is on the screen, at ${name}`)
    }
    assert.fail(`no way to ${id} by ${key}`)
}
const focused = (page) => page.evaluate(() => document.activeElement.id || document.activeElement.className || document.activeElement.tagName)

test('by keyboard alone: every control can be reached and left, ranks, cancels, opens, puts away', async () => {
    const { page, done } = await open()
    page.on('filechooser', () => {})                   /* asked for before any key: a browser under load could take the key first, and open its own */
    /* there and back again, all round: no trap, and no control that only a mouse finds */
    const wanted = await page.$$eval('a[href], input, textarea, button', (all) => all.filter((one) => one.checkVisibility({ visibilityProperty: true })
        && !one.disabled).map((one) => one.id || one.textContent.trim()))
    for (const key of ['Tab', 'Shift+Tab']) {
        const met = new Set()
        await page.evaluate(() => document.activeElement.blur())
        for (let i = 0; i < wanted.length + 2; i++) {
            await page.keyboard.press(key)
            met.add(await page.evaluate(() => document.activeElement.id || document.activeElement.textContent.trim()))
        }
        assert.deepEqual(wanted.filter((name) => !met.has(name)), [], `by ${key}`)
    }
    await tabTo(page, 'query')
    await page.keyboard.press('Control+A')
    await page.keyboard.type('play chess against the computer')
    await ranked(page, () => page.keyboard.press('Enter'))
    assert.match((await rows(page))[0].text, /chess/i)
    assert.equal(await focused(page), 'query', 'and one can go on typing')
    await page.keyboard.press('Tab')
    assert.equal(await focused(page), 'go')
    await ranked(page, () => page.keyboard.press('Space'))
    await page.keyboard.press('Tab')                   /* a query to try */
    const query = await page.evaluate(() => document.activeElement.textContent)
    await ranked(page, () => page.keyboard.press('Enter'))
    assert.equal(await page.inputValue('#query'), query)
    await tabTo(page, 'ratio')
    await ranked(page, () => page.keyboard.press('ArrowRight'))
    assert.equal(await page.locator('#ratio-text').textContent(), '8 tokens a row')
    /* Tab leaves a text of several lines; documents are typed and ranked */
    await tabTo(page, 'texts')
    await page.keyboard.press('Control+A')
    await page.keyboard.insertText('A chess program.\nAn editor for photos.')
    await page.keyboard.press('Tab')
    assert.notEqual(await focused(page), 'texts')
    await tabTo(page, 'go', 'Shift+Tab')
    await ranked(page, () => page.keyboard.press('Enter'))
    assert.equal((await rows(page)).length, 2)
    /* files, by the picker */
    for (const [id, key] of [['texts-file', 'Enter'], ['texts-file', 'Space'], ['texts-folder', 'Enter'], ['model-file', 'Enter']]) {
        await tabTo(page, id, id === 'model-file' ? 'Shift+Tab' : 'Tab')
        const [chooser] = await Promise.all([page.waitForEvent('filechooser', { timeout: 5000 }), page.keyboard.press(key)])
        if (id === 'model-file') await ranked(page, () => chooser.setFiles(tinyPath))
    }
    /* a message: Escape puts it away, and its button too */
    await tabTo(page, 'url')
    for (const key of ['Escape', 'Enter']) {
        await page.keyboard.press('Control+A')
        await page.keyboard.type(`${new URL(page.url()).origin}/page.css`)
        await page.keyboard.press('Enter')
        await page.locator('#error').waitFor({ state: 'visible' })
        if (key === 'Enter') await tabTo(page, 'error-close', 'Shift+Tab')
        await page.keyboard.press(key)
        await page.locator('#error').waitFor({ state: 'hidden' })
        assert.equal(await focused(page), key === 'Enter' ? 'query' : 'url')
        await tabTo(page, 'url')
    }
    /* work is cancelled by Escape where one is, and the query stays; by the button, whose focus goes to the one that starts anew */
    const many = Array.from({ length: 600 }, (_, i) => `${i} ${passages()[i % 15]} ${passages()[(i + 4) % 15]}`).join('\n')
    for (const key of ['Escape', 'Enter']) {
        await page.fill('#texts', `${key} ${many}`)
        await tabTo(page, 'query', 'Shift+Tab')
        await page.keyboard.press('Enter')
        await page.locator('#work').waitFor({ state: 'visible' })
        if (key === 'Enter') await tabTo(page, 'cancel')
        await page.keyboard.press(key)
        await page.waitForFunction(() => document.getElementById('status').textContent === 'Cancelled.', null, { timeout: 5000 })
        assert.equal(await focused(page), key === 'Enter' ? 'go' : 'query')
        assert.equal(await page.inputValue('#query'), query)
    }
    await done()
})

test('by keyboard alone: kept models are used and forgotten, and the focus is never lost', async () => {
    const { page, done } = await open()
    await tabTo(page, 'url')
    await page.keyboard.type(`${new URL(page.url()).origin}/dist/tiny-f32.kalm`)
    await ranked(page, () => page.keyboard.press('Enter'))
    await page.locator('#models li').waitFor()
    await page.keyboard.press('Tab')
    await page.keyboard.press('Tab')
    assert.equal(await page.evaluate(() => document.activeElement.getAttribute('aria-label')), 'Use tiny-f32.kalm')
    await ranked(page, () => page.keyboard.press('Enter'))
    await page.waitForTimeout(200)
    assert.equal(await page.evaluate(() => document.activeElement.getAttribute('aria-label')), 'Use tiny-f32.kalm')
    await page.keyboard.press('Tab')
    await page.keyboard.press('Space')
    await page.waitForFunction(() => !document.querySelector('#models li'))
    assert.equal(await focused(page), 'url')
    await done()
})

/* ---- what is kept, and without a network ---- */

/* A page on a server of its own that can be ended: { page, server, origin }. */
async function visit(context, server, path = '/') {
    const page = await context.newPage()
    await page.goto(`http://127.0.0.1:${server.address().port}${path}`)
    await ranked(page)
    return page
}

test('a model by address: progress, kept with its size, used at the next visit, forgotten', async () => {
    const server = await serve()
    servers.push(server)
    const context = await browser.newContext({ viewport: { width: 1280, height: 900 } })
    const page = await visit(context, server)
    const origin = `http://127.0.0.1:${server.address().port}`
    await page.fill('#url', `${origin}/dist/none.kalm`)
    await page.press('#url', 'Enter')
    await page.waitForFunction(() => /none\.kalm cannot be used: .*HTTP status 404/.test(document.getElementById('error-text').textContent))
    await page.fill('#url', `${origin}/page.css`)
    await page.press('#url', 'Enter')
    await page.waitForFunction(() => /page\.css cannot be used: not a \.kalm file/.test(document.getElementById('error-text').textContent))
    await page.fill('#url', `${origin}/dist/50%.kalm`)
    await page.press('#url', 'Enter')
    await page.waitForFunction(() => /50%\.kalm cannot be used: .*HTTP status 40/.test(document.getElementById('error-text').textContent))
    await page.fill('#url', 'http://127.0.0.1:9/x.kalm')
    await page.press('#url', 'Enter')
    await page.waitForFunction(() => /x\.kalm cannot be used: .*cannot be reached/.test(document.getElementById('error-text').textContent))
    assert.equal(await page.locator('#models li').count(), 0, 'nothing bad is kept')
    await page.fill('#url', `${origin}/dist/tiny-f32.kalm`)
    await ranked(page, () => page.press('#url', 'Enter'))
    await page.locator('#models li').waitFor()
    assert.match(await page.locator('#model-facts').textContent(), /f32/)
    assert.match(await page.locator('#models li').textContent(), /tiny-f32\.kalm\d+ MB/)
    assert.match(await page.locator('#kept').textContent(), /1 model, \d+ MB; 28 encoded documents, \d+/)
    await page.reload()
    await ranked(page)
    assert.match(await page.locator('#model-facts').textContent(), /f32/, 'the model of the last visit')
    assert.match(await status(page), /read before/, 'and no document is read again')
    await page.click('#forget')
    await page.waitForFunction(() => /Nothing is kept/.test(document.getElementById('kept').textContent))
    assert.equal(await page.locator('#models li').count(), 0)
    await page.reload()
    await ranked(page)
    assert.match(await page.locator('#model-facts').textContent(), /q8/)
    await context.close()
})

test('offline after the first visit', async () => {
    const server = await serve()
    servers.push(server)
    const context = await browser.newContext({ viewport: { width: 1280, height: 900 } })
    const page = await visit(context, server)
    await page.locator('html[data-offline=ready]').waitFor({ timeout: 30000 })
    const online = await rows(page)
    server.closeAllConnections?.()
    await new Promise((resolve) => server.close(resolve))
    await page.reload()
    await ranked(page)
    assert.deepEqual(await rows(page), online)
    assert.equal(await page.evaluate(() => crossOriginIsolated), true)
    await ranked(page, () => page.click('#tries button:first-of-type'))
    await context.close()
})

test('a folder: split, read once with progress, found again', async () => {
    const { page, done } = await open()
    const folder = mkdtempSync(join(tmpdir(), 'kalm-folder-'))
    mkdirSync(join(folder, 'notes', 'deep'), { recursive: true })
    writeFileSync(join(folder, 'notes', 'chess.md'), `# Chess\n\n${'You can play **chess** against the computer. '.repeat(5)}\n`)
    writeFileSync(join(folder, 'notes', 'deep', 'page.html'), '<title>Photos</title><script>alert(1)</script><p>Retouch photos with an editor.</p>')
    writeFileSync(join(folder, 'notes', 'many.txt'), Array.from({ length: 300 }, (_, i) => `Paragraph ${i} ${passages()[i % 15]} ${'and more of it '.repeat(20)}`).join('\n\n'))
    writeFileSync(join(folder, 'notes', 'picture.png'), Uint8Array.of(0x89, 80, 78, 71))
    writeFileSync(join(folder, 'notes', '.hidden.txt'), 'nobody asked for this')
    await page.fill('#query', 'play chess against the computer')
    await ranked(page, () => page.setInputFiles('#texts-folder', join(folder, 'notes')))
    assert.match(await page.locator('#set').textContent(), /notes: 3 files, 1 left out/)
    assert.match(await status(page), /200 documents of 302, those with the query's words/)
    assert.match(await page.locator('#list li:first-child .from').textContent(), /notes\/(chess\.md|many\.txt)/)
    const texts = (await rows(page)).map((r) => r.text)
    assert.ok(texts.some((text) => text.startsWith('Chess\nYou can play chess against')), 'Markdown without its marks')
    assert.ok(!texts.some((text) => /hidden|alert|nobody/.test(text)))
    await page.fill('#query', 'retouch photos')
    await ranked(page, () => page.press('#query', 'Enter'))
    assert.match(await status(page), /read before/)
    await page.reload()
    await ranked(page)
    await page.fill('#query', 'play chess against the computer')
    await ranked(page, () => page.setInputFiles('#texts-folder', join(folder, 'notes')))
    assert.match(await status(page), /read before/, 'at the next visit nothing is read again')
    rmSync(folder, { recursive: true })
    await done()
})

/* What a hand drops, by the browser's own drag and drop: files and folders of this machine. */
async function dropPaths(page, ...files) {
    const session = await page.context().newCDPSession(page)
    for (const type of ['dragEnter', 'dragOver', 'drop'])
        await session.send('Input.dispatchDragEvent', { type, x: 300, y: 300, data: { items: [], files, dragOperationsMask: 1 } })
    await session.detach()
    assert.equal(await page.locator('#drop').isVisible(), false)
}

/* The same, until the page says that it has them and has ranked: a ranking asked for earlier may end in between. */
async function dropped(page, set, ...files) {
    await ranked(page, () => dropPaths(page, ...files))
    await page.waitForFunction((text) => document.getElementById('set').textContent.includes(text)
        && document.getElementById('results').getAttribute('aria-busy') === 'false', set, { timeout: 60000 })
    await ranked(page)
}

test('folders and files let go over the page', async (t) => {
    const { page, done } = await open()
    const folder = mkdtempSync(join(tmpdir(), 'kalm-drop-'))
    t.after(() => rmSync(folder, { recursive: true }))
    for (const name of ['notes/deep/deeper', 'notes/.git', 'more', 'empty/inside']) mkdirSync(join(folder, name), { recursive: true })
    writeFileSync(join(folder, 'notes', 'chess.md'), '# Chess\n\nYou can play chess against the computer.\n')
    writeFileSync(join(folder, 'notes', 'deep', 'deeper', 'naïve 你好.html'), '<p>Retouch photos with an editor.</p>')
    writeFileSync(join(folder, 'notes', '.git', 'config.txt'), 'hidden')
    writeFileSync(join(folder, 'notes', 'picture.png'), Uint8Array.of(0x89, 80, 78, 71))
    writeFileSync(join(folder, 'more', 'mail.txt'), 'Read mail in a terminal.')
    for (let i = 0; i < 130; i++) writeFileSync(join(folder, 'more', `page ${i}.txt`), `Page ${i} about the weather.`)     /* a reader gives 100 at a time */
    writeFileSync(join(folder, 'one.txt'), 'A single file.\nOf two lines.')
    await page.fill('#query', 'play chess against the computer')
    await dropped(page, 'notes: 2 files, 1 left out', join(folder, 'notes'))
    assert.match(await page.locator('#list li:first-child .from').textContent(), /notes\/chess\.md/)
    assert.ok(!(await rows(page)).some((r) => /hidden/.test(r.text)))
    await dropped(page, '134 files, 1 left out', join(folder, 'notes'), join(folder, 'more'), join(folder, 'one.txt'))
    assert.match(await page.locator('#list li:first-child .from').textContent(), /notes\/chess\.md/)
    await ranked(page, () => dropPaths(page, join(folder, 'one.txt')))
    await page.waitForFunction(() => document.querySelectorAll('#list li').length === 2, null, { timeout: 60000 })
    await dropPaths(page, join(folder, 'empty'))
    await page.locator('#error').waitFor({ state: 'visible' })
    assert.match(await page.locator('#error-text').textContent(), /There is no file in “empty”/)
    await page.click('#error-close')
    await ranked(page, () => dropPaths(page, tinyPath))
    assert.equal((await rows(page)).length, 2, 'the model is another, the documents are the same')
    await done()
})

test('over file:// the page says what it needs', async () => {
    const context = await browser.newContext()
    const page = await context.newPage()
    await page.goto(`file://${here('index.html')}`)
    await page.locator('#error').waitFor({ state: 'visible' })
    assert.match(await page.locator('#error-text').textContent(), /must come from a web server.*node serve\.mjs/)
    await context.close()
})

test('without the files of relaxed SIMD nothing is asked for that is missing', async () => {
    const server = await serve()
    servers.push(server)
    const context = await browser.newContext()
    const page = await context.newPage()
    const missing = []
    page.on('response', (answer) => { if (answer.status() >= 400) missing.push(answer.url()) })
    await page.route('**/dist/builds.json', (route) => route.fulfill({ json: ['plain', 'simd', 'plain-threads', 'simd-threads'] }))
    await page.route('**/dist/kalm_rerank-relaxed*', (route) => route.fulfill({ status: 404, body: '' }))
    await page.goto(`http://127.0.0.1:${server.address().port}/`)
    await ranked(page)
    assert.deepEqual(missing, [])
    assert.match(await page.locator('#machine').textContent(), /WebAssembly SIMD/)
    await context.close()
})

test('axe-core finds nothing, light and dark, desktop and phone, with results, an error and things kept', async () => {
    const axe = readFileSync(here('node_modules/axe-core/axe.min.js'), 'utf8')
    for (const options of [{}, { colorScheme: 'dark' }, { viewport: { width: 390, height: 844 } }]) {
        const { page, done } = await open(options)
        await page.evaluate(() => {
            document.getElementById('error').hidden = false
            document.getElementById('error-text').textContent = 'A mistake.'
        })
        await page.evaluate(axe)
        for (const view of options.viewport ? ['results', 'documents'] : ['results']) {
            if (options.viewport) await page.click(`#view-${view}`)
            const found = await page.evaluate(async () => (await globalThis.axe.run()).violations.map((v) => `${v.id}: ${v.nodes.map((n) => n.html).join(' ')}`))
            assert.deepEqual(found, [])
        }
        await done()
    }
})
