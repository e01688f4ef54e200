/* page.mjs - the page: reads its fields, asks the Worker, shows the ranking. No framework. */
import { KalmWorker } from './worker.mjs'
import { candidates, fileTexts, isReadable, parseDocuments, parsePasted, whatIs } from './documents.mjs'
import { clearAll, forgetModel, keepDocuments, keepModel, keptDocuments, keptDocumentsSize, keptModel, keptModels } from './keep.mjs'

const RATIOS = [1, 2, 4, 8, 16, 32]
const SHOWN = 100                      /* results on the page */
const KEPT_BYTES = 128 << 20           /* of documents encoded at ratio 1; beyond it they are encoded at the ratio chosen */
const LIVE_MS = 350                    /* rank while typing, if ranking takes less */
const PASTED_BYTES = 200000            /* longer files do not go through the text area */
const CANDIDATES = 200                 /* of a folder's passages: so many with the query's words are ranked */
const FOLDER_FILES = 20000, FOLDER_BYTES = 200e6   /* beyond, the rest of a folder is left out */
const BATCH = 32                       /* passages of a folder that are read and kept at a time */
const EXAMPLES = `GIMP is an editor for pictures. Use it to retouch photos, to draw and paint, and to convert images between many file formats.
Darktable manages your raw photographs in a database, shows them on a light table and develops and enhances the images without touching the originals.
Vim is an improved version of the editor vi: multi level undo, syntax highlighting, command line history, filename completion.
GNU Chess is a chess playing program. It can play against a human or against itself, in a terminal or with a graphical board.
Stockfish is a strong chess engine that analyses positions. It needs a graphical interface to play against.
rsync copies files to and from another machine over the network. It sends only the differences, which makes it good for backups.
BorgBackup stores deduplicated, compressed and encrypted backups of files, locally or on a remote machine over SSH.
PostgreSQL is an object-relational database server with transactions, foreign keys, triggers and views.
SQLite is a C library that implements an SQL database engine in a single file, without a server process.
Mutt is a mail reader for the terminal with threads, colours, encryption and powerful filters.
FFmpeg converts, records and streams audio and video in nearly every format there is.
Audacity records and edits sounds: cut, copy and mix tracks, change speed and pitch, remove noise.
Stellarium shows a realistic sky in three dimensions, as you see it with the naked eye, binoculars or a telescope.
GnuCash keeps the accounts of a household or a small business: income, expenses, stocks and bills.`

const $ = (id) => document.getElementById(id)
const quiet = matchMedia('(prefers-reduced-motion: reduce)')

let kalm = null
let fileSet = null                     /* { name, texts, from } while a file or folder stands in for the text area; from: paths, or null */
let job = null                         /* { stop: AbortController, ended: Promise } */
let last = 0                           /* number of the newest wish; older ones give way */
let lastTook = Infinity
let stored = new Map()                 /* text -> its encoded document, at ratio `storedRatio` */
let storedRatio = 1

/* ---- words ---- */

const plural = (n, one, many = `${one}s`) => `${n.toLocaleString('en')} ${n === 1 ? one : many}`
const size = (bytes) => bytes < 1e6 ? `${Math.max(1, Math.round(bytes / 1e3))} kB`
    : bytes < 1e9 ? `${(bytes / 1e6).toFixed(bytes < 1e7 ? 1 : 0)} MB` : `${(bytes / 1e9).toFixed(2)} GB`
const time = (ms) => ms < 1000 ? `${Math.round(ms)} ms` : `${(ms / 1000).toFixed(ms < 10000 ? 1 : 0)} s`
const percent = (part) => `${Math.floor(100 * part)} %`

function say(text) { $('status').textContent = text }

function complain(text) {
    $('error-text').textContent = text
    $('error').hidden = false
}

function calm() { $('error').hidden = true }

/* While there is work: a bar, a Cancel button. The list goes pale only when it takes a while. Who has the focus on that button
   when it goes, goes on at the one that starts work. */
function showWork(part) {
    if (part === null && $('work').contains(document.activeElement)) $('go').focus()
    $('work').hidden = part === null
    if (part !== null) $('progress').value = part
    $('results').setAttribute('aria-busy', String(part !== null))
}

/* ---- models ---- */

/* What an address is called on the page; its % need not be well-formed. */
function nameOf(url) {
    const last = url.split(/[?#]/)[0].split('/').pop() || url
    try {
        return decodeURIComponent(last)
    } catch {
        return last
    }
}

/* What the page loads models with: relaxed SIMD only where its files are there, so that no load asks for what is missing. */
let builds
const loadOptions = async () => {
    builds ??= fetch('dist/builds.json').then((answer) => answer.ok ? answer.json() : [], () => [])
    return (await builds).includes('relaxed') ? {} : { relaxed: false }
}

/* A model by its address: from what is kept, else from there, and kept while it streams in. */
async function openAddress(text, isOwn = false) {
    let url
    try {
        url = new URL(text, document.baseURI).href
    } catch {
        return complain(`“${text}” is no address.`)
    }
    const name = nameOf(url)
    const opened = await openModel(async (signal) => {
        const blob = await keptModel(url)
        if (blob) return { source: blob }
        let answer
        try {
            answer = await fetch(url, { signal })
        } catch (error) {
            if (error.name === 'AbortError') throw error
            throw new Error(`${url} cannot be reached (the server may be down, or not allow other pages to read: CORS)`)
        }
        if (!answer.ok) throw new Error(`${url}: HTTP status ${answer.status}`)
        if (!answer.body || isOwn) return { source: answer }
        const [mine, theirs] = answer.body.tee()
        return { source: mine, kept: keepModel(url, theirs) }
    }, name, async (kept) => {
        if (await kept === false) complain(`${name} is in use, but this browser has no room to keep it for the next visit.`)
    }, () => forgetModel(url))
    try {
        if (opened && !isOwn) localStorage.setItem('model', url)
    } catch { /* a page may be refused storage */ }
    showKept()
    return opened
}

/* source: what Kalm.load takes, or a function that finds it. Resolves to whether the model is in use. */
async function openModel(source, name, settled, failed) {
    const mine = ++last
    calm()
    await endJob()
    if (mine !== last) return
    const stop = new AbortController()
    let release
    job = { stop, ended: new Promise((resolve) => { release = resolve }) }
    say(`Loading ${name} …`)
    let found
    try {
        const began = performance.now()
        found = typeof source === 'function' ? await source(stop.signal) : { source }
        const loaded = await KalmWorker.load(found.source, {
            ...await loadOptions(), signal: stop.signal,
            onProgress({ loaded: bytes, total }) {
                if (performance.now() - began < 150) return
                showWork(bytes / total)
                say(`Loading ${name}: ${percent(bytes / total)} of ${size(total)}`)
            }
        })
        if (!loaded.info.hasTokenizer || loaded.info.weights === 'none') {
            loaded.free()
            throw new Error(loaded.info.weights === 'none' ? 'the file holds a tokenizer alone, no model'
                : 'the file holds no tokenizer, so it cannot read texts')
        }
        if (!loaded.info.hasEncoder || !loaded.info.hasDecoder) {
            loaded.free()
            throw new Error('the file holds half a model (kalm-quantize --side); this page reads documents and ranks them')
        }
        if (found.kept) settled?.(found.kept)
        kalm?.free()
        kalm = loaded
        stored = new Map()
        lastTook = Infinity
        showModel()
        say('Ready.')
    } catch (error) {
        if (error.name === 'AbortError') say(kalm ? 'Cancelled. The model from before is still here.' : 'Cancelled.')
        else {
            complain(`${name} cannot be used: ${error.message}.`)
            say(kalm ? `${$('model-name').textContent} is still the model in use.` : 'No model yet: open one.')
        }
        if (found?.kept) {             /* what came of it must not be kept; the kept one of another visit may */
            stop.abort()
            await found.kept
            await failed?.()
        } else if (error.name !== 'AbortError') await failed?.()
        return false
    } finally {
        job = null
        showWork(null)
        release()
    }
    rank()
    return true
}

/* ---- what is kept ---- */

async function showKept() {
    const models = await keptModels(), { count, bytes } = await keptDocumentsSize()
    const focused = $('models').contains(document.activeElement) ? document.activeElement.getAttribute('aria-label') : null
    $('models').replaceChildren(...models.map(({ url, bytes: one }) => {
        const li = document.createElement('li')
        const name = document.createElement('span'), facts = document.createElement('span')
        const use = document.createElement('button'), forget = document.createElement('button')
        name.className = 'name'
        name.textContent = nameOf(url)
        name.title = url
        facts.className = 'size'
        facts.textContent = size(one)
        use.type = forget.type = 'button'
        use.className = forget.className = 'button quiet'
        use.textContent = 'Use'
        use.setAttribute('aria-label', `Use ${name.textContent}`)
        use.onclick = () => openAddress(url)
        forget.textContent = 'Forget'
        forget.setAttribute('aria-label', `Forget ${name.textContent}`)
        forget.onclick = async () => {
            await forgetModel(url)
            showKept()
        }
        li.append(name, facts, use, forget)
        return li
    }))
    const parts = []
    if (models.length) parts.push(`${plural(models.length, 'model')}, ${size(models.reduce((sum, m) => sum + m.bytes, 0))}`)
    if (count) parts.push(`${plural(count, 'encoded document')}, ${size(bytes)}`)
    $('kept').textContent = parts.length ? `Kept in this browser: ${parts.join('; ')}.` : 'Nothing is kept in this browser.'
    $('forget').hidden = !parts.length
    /* the focus stays on the button that it was on, or near what is gone */
    if (focused) ([...$('models').querySelectorAll('button')].find((one) => one.getAttribute('aria-label') === focused) ?? $('url')).focus()
}

function showModel() {
    const { name, weights, bytes, build, threads, kernels } = kalm.info
    $('model-name').textContent = name || 'unnamed model'
    $('model-name').title = name
    $('model-facts').textContent = `${weights} · ${size(bytes)}`
    $('machine').textContent = `WebAssembly ${{ relaxed: 'relaxed SIMD', simd: 'SIMD' }[build.split('-')[0]] ?? 'without SIMD'}, `
        + `${plural(threads, 'thread')}, ${kernels} kernels.`
}

/* ---- ranking ---- */

const ratio = () => RATIOS[$('ratio').value]
const texts = () => fileSet ? fileSet.texts : parsePasted($('texts').value)
const modelKey = () => `${kalm.info.fingerprint} ${kalm.info.cutVocabulary ?? ''}`

/* Encode texts that the page has not met; what is kept of other visits is taken, and what is made is kept. */
async function encodeFresh(fresh, options) {
    const kept = await keptDocuments(modelKey(), storedRatio, fresh)
    for (const [text, document] of kept) stored.set(text, document)
    const missing = fresh.filter((text) => !kept.has(text))
    for (let at = 0; at < missing.length; at += BATCH) {
        const some = missing.slice(at, at + BATCH)
        const made = await kalm.encode(some, { ratio: storedRatio, signal: options.signal,
            onProgress: ({ part }) => options.onProgress({ part: (at + part * some.length) / missing.length }) })
        some.forEach((text, i) => stored.set(text, made[i]))
        await keepDocuments(modelKey(), storedRatio, some, made)
    }
    return missing.length
}

async function endJob() {
    while (job) {
        job.stop.abort()
        await job.ended
    }
}

/* The newest wish wins: a running job is cancelled, and of several that wait only the last is done. */
async function rank() {
    if (job?.reading) return           /* a folder is read first, and then ranked */
    const mine = ++last
    await endJob()
    if (mine !== last || !kalm) return
    const query = $('query').value.trim()
    const everything = texts()
    const chosen = fileSet?.from && query ? candidates(query, everything, CANDIDATES) : everything.map((_, i) => i)
    const documents = chosen.map((i) => everything[i])
    calm()
    if (!query || !documents.length) {
        $('list').replaceChildren()
        say(query ? 'Add some documents to rank.' : 'Ask something.')
        return
    }
    const stop = new AbortController()
    let release
    job = { stop, ended: new Promise((resolve) => { release = resolve }) }
    const began = performance.now()
    const progress = (from, to, what) => ({ part }) => {
        const took = performance.now() - began
        if (took < 200) return
        const all = from + (to - from) * part
        showWork(all)
        $('list').classList.add('old')
        say(`${what} ${percent(all)}${took > 2000 && all > 0.02 ? `, about ${time(took / all * (1 - all))} left` : ''}`)
    }
    try {
        const { wanted, fresh } = plan(documents)
        const share = fresh.length ? 0.75 : 0
        let encoding = 0
        if (fresh.length) {
            const at = performance.now()
            const made = await encodeFresh(fresh, { signal: stop.signal,
                onProgress: progress(0, share, `Reading ${plural(fresh.length, 'document')}:`) })
            if (made) {
                encoding = performance.now() - at
                showKept()
            }
        }
        const at = performance.now()
        const instruction = $('instruction').value.trim() || undefined
        const ranked = await kalm.rerank(query, documents.map((text) => stored.get(text)), {
            ratio: wanted, instruction, topK: SHOWN, signal: stop.signal,
            onProgress: progress(share, 1, `Ranking ${plural(documents.length, 'document')}:`) })
        const ranking = performance.now() - at
        lastTook = performance.now() - began
        show(ranked, documents, chosen.map((i) => fileSet?.from?.[i]))
        say(plural(documents.length, 'document') + (documents.length < everything.length
            ? ` of ${everything.length.toLocaleString('en')}, those with the query's words` : '') + (encoding
            ? ` in ${time(encoding + ranking)}: ${time(encoding)} to read ${fresh.length === documents.length ? 'them' : fresh.length}, `
            : ', read before: ')
            + `${time(ranking)} to rank${documents.length > SHOWN ? `; the best ${SHOWN} are shown` : ''}`)
    } catch (error) {
        if (error.name === 'AbortError') say('Cancelled.')
        else {
            complain(`That did not work: ${error.message}.`)
            say('')
        }
    } finally {
        job = null
        showWork(null)
        $('list').classList.remove('old')
        release()
    }
}

/* Documents are kept at ratio 1, of which every other is made without reading them again, unless they are too many. */
function plan(documents) {
    const wanted = ratio()
    const bytes = documents.reduce((sum, text) => sum + text.length, 0) / 4 * kalm.info.width * 2
    const keep = bytes <= KEPT_BYTES ? 1 : wanted
    const missing = () => [...new Set(documents)].filter((text) => !stored.has(text))
    let fresh = missing()
    /* of no use at this ratio, too fine for so many, or mostly of texts that are gone */
    if (wanted % storedRatio || (fresh.length && storedRatio < keep) || stored.size > 4 * documents.length + 1000) {
        stored = new Map()
        fresh = missing()
    }
    if (!stored.size) storedRatio = keep
    return { wanted, fresh }
}

/* ---- the list ---- */

function show(ranked, documents, from) {
    const list = $('list')
    const before = new Map([...list.children].map((li) => [li.dataset.text, li.getBoundingClientRect().top]))
    const items = ranked.map((result, i) => item(result, i, documents[result.index], from[result.index]))
    list.replaceChildren(...items)
    /* first ask all, then change: the page is laid out once */
    const long = items.filter((li) => li.querySelector('.text').scrollHeight > li.querySelector('.text').clientHeight + 2)
    long.forEach(addMore)
    if (quiet.matches) return
    for (const li of items) {          /* rows glide from where they were */
        const was = before.get(li.dataset.text)
        if (was === undefined) continue
        const by = was - li.getBoundingClientRect().top
        if (by) li.animate([{ transform: `translateY(${by}px)` }, { transform: 'none' }], { duration: 260, easing: 'cubic-bezier(.2,.7,.2,1)' })
    }
}

function item({ score, margin, cut }, i, text, from) {
    const li = $('item').content.firstElementChild.cloneNode(true)
    const of = (name) => li.querySelector(`.${name}`)
    li.dataset.text = text.slice(0, 400)
    li.classList.toggle('yes', score >= 0.5)
    of('place').textContent = i + 1
    of('text').textContent = text
    of('from').textContent = from ?? ''
    of('from').hidden = !from
    of('meter').firstElementChild.style.width = `${100 * score}%`
    of('meter').setAttribute('aria-hidden', 'true')
    of('score').textContent = score.toFixed(3)
    of('score').setAttribute('aria-label', `score ${score.toFixed(3)}`)
    of('score').setAttribute('role', 'img')
    of('margin').textContent = `margin ${margin < 0 ? '−' : '+'}${Math.abs(margin).toFixed(2)}`
    of('cut').hidden = !cut
    return li
}

/* A button that shows the whole of a text that is cut off on the page. */
function addMore(li) {
    const text = li.querySelector('.text'), more = document.createElement('button')
    more.type = 'button'
    more.className = 'more'
    more.onclick = () => set(text.classList.toggle('all'))
    const set = (all) => {
        more.textContent = all ? 'Show less' : 'Show all'
        more.setAttribute('aria-expanded', String(all))
    }
    set(false)
    text.after(more)
}

/* ---- documents ---- */

function showDocuments() {
    $('pasted').hidden = !!fileSet
    $('set').hidden = !fileSet
    if (fileSet) {
        $('set-name').textContent = fileSet.name
        $('set-facts').textContent = plural(fileSet.texts.length, 'document')
    }
    $('count').textContent = plural(texts().length, 'document')
    $('view-count').textContent = texts().length.toLocaleString('en')
}

async function openDocuments(file) {
    calm()
    try {
        const head = new Uint8Array(await file.slice(0, 32).arrayBuffer())
        const is = whatIs(head, file.name)
        if (is) throw new Error(`“${file.name}” is ${is}`)
        const { texts: found, left } = parseDocuments(await file.text(), file.name)
        const plain = file.size <= PASTED_BYTES && found.every((text) => !text.includes('\n'))
        fileSet = plain ? null : { name: file.name, texts: found, from: null }
        if (plain) $('texts').value = found.join('\n')
        showDocuments()
        await rank()
        if (left.length)
            complain(`${plural(left.length, 'line')} of “${file.name}” left out: line ${left[0].line}, ${left[0].why}${left.length > 1 ? ', …' : ''}`)
    } catch (error) {
        complain(`${error.message}.`)
    }
}

/* A dropped file is what its first bytes or its name say; what is neither is tried as a model, whose refusal says why. */
async function openAny(file) {
    const head = new Uint8Array(await file.slice(0, 8).arrayBuffer())
    const isModel = head[0] === 0x89 && String.fromCharCode(...head.subarray(1, 5)) === 'KALM'
    const is = isModel ? null : whatIs(new Uint8Array(await file.slice(0, 32).arrayBuffer()), file.name)
    if (is) return complain(`“${file.name}” is ${is}.`)
    if (!isModel && (/\.(txt|jsonl|ndjson|json|md|csv|tsv)$/i.test(file.name) || file.type.startsWith('text/'))) return openDocuments(file)
    return openModel(file, file.name)
}

/* A folder: its texts in passages, all of them read once, with progress; ranking then reads the query alone. */
async function openFolder(files, name) {
    const mine = ++last
    calm()
    await endJob()
    if (mine !== last) return
    if (!kalm) return complain('Open a model first.')
    const stop = new AbortController()
    let release
    job = { stop, reading: true, ended: new Promise((resolve) => { release = resolve }) }
    const all = [], from = []
    let used = 0, left = 0, bytes = 0
    try {
        say(`Looking through ${name} …`)
        for (const { path, file } of files) {
            if (stop.signal.aborted) break
            if (!file || !isReadable(path) || bytes + file.size > FOLDER_BYTES || used >= FOLDER_FILES) {
                left++
                continue
            }
            bytes += file.size
            const found = fileTexts(await file.text().catch(() => ''), path)       /* '': it may not be read, or is gone */
            if (found.length) used++
            else left++
            for (const text of found) all.push(text), from.push(path)
        }
        if (!all.length) throw new Error(`there is no text, Markdown or HTML in ${name}`)
        fileSet = { name: `${name}: ${plural(used, 'file')}${left ? `, ${left} left out` : ''}`, texts: all, from }
        showDocuments()
        const { fresh } = plan(all)
        const began = performance.now()
        await encodeFresh(fresh, { signal: stop.signal, onProgress: ({ part }) => {
            const took = performance.now() - began
            showWork(part)
            say(`Reading ${plural(fresh.length, 'passage')} of ${plural(used, 'file')}: ${percent(part)}`
                + (took > 2000 && part > 0.02 ? `, about ${time(took / part * (1 - part))} left` : ''))
        } })
    } catch (error) {
        if (error.name === 'AbortError') say('Cancelled. What was read is kept.')
        else {
            complain(`That did not work: ${error.message}.`)
            say('')
        }
        return
    } finally {
        job = null
        showWork(null)
        release()
        showKept()
    }
    rank()
}

/* Every file below a dropped folder or file, [{ path, file }]; file is null where it cannot be had. Names that begin with a dot
   are hidden files. */
async function filesBelow(entry, path = entry.name, out = []) {
    if (out.length > FOLDER_FILES) return out
    if (entry.isFile) {
        out.push({ path, file: await new Promise((resolve) => entry.file(resolve, () => resolve(null))) })
        return out
    }
    const reader = entry.createReader()
    for (;;) {                         /* it gives a hundred at a time */
        const some = await new Promise((resolve) => reader.readEntries(resolve, () => resolve([])))
        if (!some.length) return out
        for (const one of some) if (!one.name.startsWith('.')) await filesBelow(one, `${path}/${one.name}`, out)
    }
}

/* What was let go over the page: one file is opened, more of them or folders are searched together. */
async function openDropped(entries, files) {
    if (files.length === 1 && !entries.some((entry) => entry.isDirectory)) return openAny(files[0])
    const found = []
    if (entries.length) for (const entry of entries) await filesBelow(entry, entry.name, found)
    else for (const file of files) found.push({ path: file.name, file })
    if (found.length) return openFolder(found, entries.length === 1 ? entries[0].name : plural(entries.length || files.length, 'thing'))
    if (entries.length) complain(`There is no file in ${entries.length === 1 ? `“${entries[0].name}”` : 'what was dropped'}.`)
}

/* ---- what the person does ---- */

function whenStill(ms, act) {
    let timer
    return () => {
        clearTimeout(timer)
        timer = setTimeout(act, ms)
    }
}
const live = whenStill(180, () => { if (lastTook < LIVE_MS) rank() })

$('ask').onsubmit = (event) => {
    event.preventDefault()
    rank()
}
$('query').oninput = live
$('instruction').oninput = live
$('ratio').oninput = () => {
    const words = `${plural(ratio(), 'token')} a row`
    $('ratio-text').textContent = words
    $('ratio').setAttribute('aria-valuetext', words)
    rankSoon()
}
const rankSoon = whenStill(80, rank)
$('tries').onclick = ({ target }) => {
    if (target.tagName !== 'BUTTON') return
    const query = target.textContent
    target.textContent = $('query').value.trim() || query
    $('query').value = query
    rank()
}
$('texts').oninput = () => {
    showDocuments()
    live()
}
function cancel() {
    last++
    job?.stop.abort()
}
$('cancel').onclick = () => {
    cancel()
    $('go').focus()
}
$('error-close').onclick = () => {
    calm()
    $('query').focus()
}
for (const view of ['results', 'documents'])
    $(`view-${view}`).onclick = () => {
        $('columns').dataset.view = view
        for (const other of ['results', 'documents']) $(`view-${other}`).setAttribute('aria-pressed', String(other === view))
        /* on a small phone what was asked for lies below the screen */
        if ($('columns').getBoundingClientRect().top > innerHeight / 2) $(`view-${view}`).scrollIntoView({ block: 'start' })
    }
$('address').onsubmit = async (event) => {
    event.preventDefault()
    if (await openAddress($('url').value.trim())) $('url').value = ''
}
$('forget').onclick = async () => {
    await clearAll()
    try {
        localStorage.removeItem('model')
    } catch { /* as above */ }
    await showKept()
    $('url').focus()
}
$('texts-folder').onchange = () => {
    const files = [...$('texts-folder').files].map((file) => ({ path: file.webkitRelativePath || file.name, file }))
        .filter(({ path }) => !path.split('/').some((part) => part.startsWith('.')))
    $('texts-folder').value = ''
    if (files.length) openFolder(files, files[0].path.split('/')[0])
}
$('set-close').onclick = () => {
    fileSet = null
    showDocuments()
    $('texts').focus()
    rank()
}
$('clear').onclick = () => {
    fileSet = null
    $('texts').value = ''
    showDocuments()
    $('texts').focus()
    rank()
}
$('examples').onclick = () => {
    fileSet = null
    $('texts').value = EXAMPLES
    showDocuments()
    rank()
}
for (const [id, open] of [['model-file', (file) => openModel(file, file.name)], ['texts-file', openDocuments]])
    $(id).onchange = () => {
        const file = $(id).files[0]
        if (file) open(file)
        $(id).value = ''               /* so that the same file can be chosen again */
    }

const shades = ['light', 'dark']
const shade = () => document.documentElement.dataset.theme ?? (matchMedia('(prefers-color-scheme: dark)').matches ? 'dark' : 'light')
$('theme').onclick = () => {
    const next = shades[1 - shades.indexOf(shade())]
    document.documentElement.dataset.theme = next
    try {
        localStorage.setItem('theme', next)
    } catch { /* a page may be refused storage */ }
}
try {
    const kept = localStorage.getItem('theme')
    if (shades.includes(kept)) document.documentElement.dataset.theme = kept
} catch { /* likewise */ }

let over = 0
const hasFile = (event) => [...event.dataTransfer?.types ?? []].includes('Files')
addEventListener('dragenter', (event) => {
    if (!hasFile(event)) return
    event.preventDefault()
    over++
    $('drop').hidden = false
})
addEventListener('dragover', (event) => { if (hasFile(event)) event.preventDefault() })
addEventListener('dragleave', (event) => {
    if (hasFile(event) && --over <= 0) {
        over = 0
        $('drop').hidden = true
    }
})
addEventListener('drop', (event) => {
    if (!hasFile(event)) return
    event.preventDefault()
    over = 0
    $('drop').hidden = true
    /* the browser takes them away when this function returns */
    const files = [...event.dataTransfer.files]
    const entries = [...event.dataTransfer.items ?? []].map((item) => item.webkitGetAsEntry?.()).filter(Boolean)
    openDropped(entries, files).catch((error) => complain(`What was dropped cannot be read: ${error.message}.`))
})
/* Escape stops what is at work, or puts a message away. */
addEventListener('keydown', (event) => {
    if (event.key !== 'Escape' || event.defaultPrevented || event.isComposing || ($('work').hidden && $('error').hidden)) return
    event.preventDefault()             /* a search field would be emptied as well */
    if (!$('work').hidden) cancel()
    else calm()
})

/* ---- begin ---- */

/* The page and what it computes with go to the service worker, for the next time that there is no network. */
async function keepOffline() {
    if (!('serviceWorker' in navigator) || !isSecureContext) return
    /* Firefox 153 never ends the next visit of a page that has both a service worker and the headers for shared memory. */
    if (crossOriginIsolated && /firefox/i.test(navigator.userAgent)) return
    try {
        navigator.serviceWorker.onmessage = ({ data }) => {
            if (data?.offline) document.documentElement.dataset.offline = 'ready'
        }
        await navigator.serviceWorker.register('service.js')
        const worker = (await navigator.serviceWorker.ready).active
        const build = kalm ? kalm.info.build : 'simd'
        const names = ['', 'page.css', 'page.mjs', 'documents.mjs', 'keep.mjs', 'kalm.mjs', 'worker.mjs', 'worker-thread.mjs',
            'dist/builds.json', 'dist/tiny.kalm', `dist/kalm_rerank-${build}.wasm`]
        if (build.endsWith('-threads')) names.push(`dist/kalm_rerank-${build}.js`, `dist/kalm_rerank-${build}.worker.js`)
        worker.postMessage({ files: names })
    } catch { /* the page works without */ }
}

async function begin() {
    $('texts').value = EXAMPLES
    showDocuments()
    if (typeof WebAssembly !== 'object') return complain('This browser has no WebAssembly, which the page computes with.')
    say('Loading the tiny model …')
    let url = null
    try {
        url = localStorage.getItem('model')
        if (url && !await keptModel(url)) url = null
    } catch { /* a page may be refused storage */ }
    if (!url || !await openAddress(url)) await openAddress('dist/tiny.kalm', true)
    keepOffline()
}
begin()
