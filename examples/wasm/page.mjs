/* page.mjs - the page: reads its fields, asks the Worker, shows the ranking. No framework. */
import { KalmWorker } from './worker.mjs'
import { parseDocuments } from './documents.mjs'

const RATIOS = [1, 2, 4, 8, 16, 32]
const SHOWN = 100                      /* results on the page */
const KEPT_BYTES = 128 << 20           /* of documents encoded at ratio 1; beyond it they are encoded at the ratio chosen */
const LIVE_MS = 350                    /* rank while typing, if ranking takes less */
const PASTED_BYTES = 200000            /* longer files do not go through the text area */
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
let fileSet = null                     /* { name, texts } while a file stands in for the text area */
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

/* While there is work: a bar, a Cancel button. The list goes pale only when it takes a while. */
function showWork(part) {
    $('work').hidden = part === null
    if (part !== null) $('progress').value = part
    $('results').setAttribute('aria-busy', String(part !== null))
}

/* ---- models ---- */

async function openModel(source, name) {
    const mine = ++last
    calm()
    await endJob()
    if (mine !== last) return
    const stop = new AbortController()
    let release
    job = { stop, ended: new Promise((resolve) => { release = resolve }) }
    say(`Loading ${name} …`)
    try {
        const began = performance.now()
        const loaded = await KalmWorker.load(source, {
            signal: stop.signal,
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
        return
    } finally {
        job = null
        showWork(null)
        release()
    }
    rank()
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
const texts = () => fileSet ? fileSet.texts : $('texts').value.split('\n').map((line) => line.trim()).filter(Boolean)

async function endJob() {
    while (job) {
        job.stop.abort()
        await job.ended
    }
}

/* The newest wish wins: a running job is cancelled, and of several that wait only the last is done. */
async function rank() {
    const mine = ++last
    await endJob()
    if (mine !== last || !kalm) return
    const documents = texts()
    const query = $('query').value.trim()
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
            const made = await kalm.encode(fresh, { ratio: storedRatio, signal: stop.signal,
                onProgress: progress(0, share, `Reading ${plural(fresh.length, 'document')}:`) })
            fresh.forEach((text, i) => stored.set(text, made[i]))
            encoding = performance.now() - at
        }
        const at = performance.now()
        const instruction = $('instruction').value.trim() || undefined
        const ranked = await kalm.rerank(query, documents.map((text) => stored.get(text)), {
            ratio: wanted, instruction, topK: SHOWN, signal: stop.signal,
            onProgress: progress(share, 1, `Ranking ${plural(documents.length, 'document')}:`) })
        const ranking = performance.now() - at
        lastTook = performance.now() - began
        show(ranked, documents)
        say(plural(documents.length, 'document') + (encoding
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

function show(ranked, documents) {
    const list = $('list')
    const before = new Map([...list.children].map((li) => [li.dataset.text, li.getBoundingClientRect().top]))
    const items = ranked.map((result, i) => item(result, i, documents[result.index]))
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

function item({ score, margin, cut }, i, text) {
    const li = $('item').content.firstElementChild.cloneNode(true)
    const of = (name) => li.querySelector(`.${name}`)
    li.dataset.text = text.slice(0, 400)
    li.classList.toggle('yes', score >= 0.5)
    of('place').textContent = i + 1
    of('text').textContent = text
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
}

async function openDocuments(file) {
    calm()
    try {
        const found = parseDocuments(await file.text(), file.name)
        const plain = file.size <= PASTED_BYTES && found.every((text) => !text.includes('\n'))
        fileSet = plain ? null : { name: file.name, texts: found }
        if (plain) $('texts').value = found.join('\n')
        showDocuments()
        rank()
    } catch (error) {
        complain(`${error.message}.`)
    }
}

/* A dropped file is what its first bytes or its name say; what is neither is tried as a model, whose refusal says why. */
async function openAny(file) {
    const head = new Uint8Array(await file.slice(0, 8).arrayBuffer())
    const isModel = head[0] === 0x89 && String.fromCharCode(...head.subarray(1, 5)) === 'KALM'
    if (!isModel && (/\.(txt|jsonl|ndjson|json|md|csv|tsv)$/i.test(file.name) || file.type.startsWith('text/'))) return openDocuments(file)
    return openModel(file, file.name)
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
$('cancel').onclick = () => {
    last++
    job?.stop.abort()
    $('go').focus()
}
$('error-close').onclick = () => {
    calm()
    $('query').focus()
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
    const file = event.dataTransfer.files[0]
    if (file) openAny(file)
})

/* ---- begin ---- */

$('texts').value = EXAMPLES
showDocuments()
if (typeof WebAssembly === 'object') openModel(new URL('dist/tiny.kalm', document.baseURI).href, 'the tiny model')
else complain('This browser has no WebAssembly, which the page computes with.')
