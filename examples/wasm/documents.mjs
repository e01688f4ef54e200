/* documents.mjs - files of documents to arrays of texts. One text a line; where lines are blank, the paragraphs between them; JSON
   Lines with "text" and maybe "title"; of Markdown and HTML the words, in passages of a length that ranks well. */

export class FileError extends Error {}

const isObject = (line) => line.trimStart().startsWith('{')
const linesOf = (content) => content.replace(/^\ufeff/, '').split(/\r\n|\n|\r/)

/* Typed or pasted text: paragraphs where there are blank lines between texts, else lines. */
export function parsePasted(content) {
    const lines = linesOf(content.trim())
    if (lines.every((line) => line.trim())) return lines.map((line) => line.trim())
    return content.replace(/^\ufeff/, '').split(/(?:\r\n|\n|\r)(?:[^\S\r\n]*(?:\r\n|\n|\r))+/)
        .map((text) => linesOf(text).map((line) => line.trim()).filter(Boolean).join('\n')).filter(Boolean)
}

/* { texts, left } of a file's content: left are lines that hold no document, [{ line, why }]. `name` is for errors and tells the
   form: .jsonl, .ndjson, or by its first line. A file with nothing in it throws. */
export function parseDocuments(content, name = 'the file') {
    const lines = linesOf(content)
    const first = lines.find((line) => line.trim())
    if (first === undefined) throw new FileError(`“${name}” holds no text`)
    if (content.slice(0, 4096).includes('\0')) throw new FileError(`“${name}” is not a text file`)
    if (!/\.(jsonl|ndjson)$/i.test(name) && !isObject(first)) return { texts: parsePasted(content), left: [] }
    const texts = [], left = []
    lines.forEach((line, i) => {
        if (!line.trim()) return
        let value
        try {
            value = JSON.parse(line)
        } catch (error) {
            return left.push({ line: i + 1, why: error.message })
        }
        if (typeof value?.text !== 'string' || !value.text.trim()) return left.push({ line: i + 1, why: 'it has no "text"' })
        texts.push(typeof value.title === 'string' && value.title ? `${value.title} ${value.text}` : value.text)
    })
    if (!texts.length) throw new FileError(`“${name}”, line ${left[0].line}: ${left[0].why}`)
    return { texts, left }
}

/* What a file is that is no model and no text, in words; null where its first bytes say nothing. */
export function whatIs(head, name) {
    const is = (at, ...bytes) => bytes.every((byte, i) => head[at + i] === byte)
    const letters = (at, word) => is(at, ...[...word].map((c) => c.charCodeAt(0)))
    const make = 'kalm-quantize makes a .kalm file of a checkpoint: kalm-quantize FOLDER OUT.kalm'
    if (/\.safetensors$/i.test(name) || (is(2, 0, 0, 0, 0, 0, 0) && letters(8, '{'))) return `weights of a checkpoint (safetensors). ${make}`
    if (letters(0, 'GGUF')) return `a GGUF file, the format of llama.cpp, which this page does not read. ${make}`
    if (/\.(bin|pt|pth|ckpt)$/i.test(name) && letters(0, 'PK')) return `weights of PyTorch. Save them as safetensors; ${make}`
    if (/\.onnx$/i.test(name)) return `an ONNX model, which this page does not read. ${make}`
    if (letters(0, '%PDF-')) return 'a PDF file. Take its text out first (pdftotext, or copy and paste)'
    if (is(0, 0x89) && letters(1, 'PNG')) return 'a picture (PNG), and documents are texts'
    if (is(0, 0xff, 0xd8, 0xff)) return 'a picture (JPEG), and documents are texts'
    if (letters(0, 'GIF8')) return 'a picture (GIF), and documents are texts'
    if (letters(0, 'RIFF') && letters(8, 'WEBP')) return 'a picture (WebP), and documents are texts'
    if (letters(4, 'ftyp')) return 'a film or a picture, and documents are texts'
    if (letters(0, 'PK')) return /\.(docx|odt|xlsx|pptx|epub)$/i.test(name) ? 'a packed office document or book: save it as text first'
        : 'a ZIP archive: unpack it first'
    if (is(0, 0x1f, 0x8b)) return 'compressed by gzip: unpack it first'
    if (is(0, 0x28, 0xb5, 0x2f, 0xfd)) return 'compressed by zstd: unpack it first'
    if (letters(0, 'SQLite format 3')) return 'a SQLite database, such as a store of kalm-index; this page reads texts'
    return null
}

/* ---- folders ---- */

export const isReadable = (name) => /\.(txt|text|md|markdown|rst|org|html?|xhtml|jsonl|ndjson|csv|tsv|log)$/i.test(name)

/* The words of a page of HTML, a line for each block. DOMParser runs no scripts and loads nothing. */
function htmlText(content) {
    const page = new DOMParser().parseFromString(content, 'text/html')
    for (const node of page.querySelectorAll('script, style, noscript, template, svg, nav')) node.remove()
    for (const node of page.querySelectorAll('p, div, li, h1, h2, h3, h4, h5, h6, tr, pre, blockquote, section, article, br, dt, dd'))
        node.append('\n\n')
    const title = page.title.trim()
    return `${title ? `${title}\n\n` : ''}${page.body?.textContent ?? ''}`
}

/* Markdown without its marks, as far as they would be read as words. */
const markdownText = (content) => content.replace(/^---\n[\s\S]*?\n---\n/, '').replace(/!?\[([^\]]*)\]\([^)]*\)/g, '$1')
    .replace(/^#+\s*/gm, '').replace(/^\s*[-*+]\s+/gm, '').replace(/[*_`]{1,3}([^*_`]+)[*_`]{1,3}/g, '$1').replace(/^```.*$/gm, '')

const LEAST = 300, MOST = 1200         /* letters of a passage: about 70 and 300 tokens, and never more than the model reads */

/* A text in passages: paragraphs, short ones together, long ones cut at sentences or words. */
export function passagesOf(text) {
    const out = []
    let now = ''
    const flush = () => {
        if (now.trim()) out.push(now.trim())
        now = ''
    }
    for (const paragraph of text.split(/(?:\r\n|\n|\r)(?:[^\S\r\n]*(?:\r\n|\n|\r))+/)) {
        let rest = paragraph.replace(/\s+/g, ' ').trim()
        if (now.length + rest.length > MOST || now.length >= LEAST) flush()
        while (rest.length > MOST) {
            const head = rest.slice(0, MOST)
            const at = Math.max(head.lastIndexOf('. '), head.lastIndexOf('。'), head.lastIndexOf('! '), head.lastIndexOf('? '))
            const cut = at > MOST / 2 ? at + 1 : head.lastIndexOf(' ') > MOST / 2 ? head.lastIndexOf(' ') : MOST
            now = rest.slice(0, cut)
            flush()
            rest = rest.slice(cut).trim()
        }
        if (rest) now = now ? `${now}\n${rest}` : rest
    }
    flush()
    return out
}

/* The passages of a file in a folder. What is no text has none. */
export function fileTexts(content, name) {
    if (content.slice(0, 4096).includes('\0')) return []
    if (/\.(jsonl|ndjson)$/i.test(name)) {
        try {
            return parseDocuments(content, name).texts.flatMap(passagesOf)
        } catch {
            return []
        }
    }
    if (/\.x?html?$/i.test(name)) return passagesOf(htmlText(content))
    return passagesOf(/\.(md|markdown)$/i.test(name) ? markdownText(content) : content)
}

/* ---- finding candidates ---- */

/* The `most` texts with the words of the query that are rarest, by BM25 (k1 1.2, b 0.75): a reranker is to read the best
   candidates, not everything. Returns their numbers in order; texts without any of the words follow as they come. */
export function candidates(query, texts, most) {
    const words = (text) => text.toLowerCase().match(/[\p{L}\p{N}]+/gu) ?? []
    const asked = [...new Set(words(query))]
    const bags = texts.map((text) => {
        const bag = new Map()
        const all = words(text)
        for (const word of all) bag.set(word, (bag.get(word) ?? 0) + 1)
        return { bag, length: all.length }
    })
    const average = bags.reduce((sum, { length }) => sum + length, 0) / (texts.length || 1) || 1
    const weights = asked.map((word) => {
        const having = bags.filter(({ bag }) => bag.has(word)).length
        return Math.log(1 + (texts.length - having + 0.5) / (having + 0.5))
    })
    return bags.map(({ bag, length }, i) => ({ i, score: asked.reduce((sum, word, k) => {
        const times = bag.get(word) ?? 0
        return sum + weights[k] * times * 2.2 / (times + 1.2 * (0.25 + 0.75 * length / average))
    }, 0) })).sort((a, b) => b.score - a.score || a.i - b.i).slice(0, most).map(({ i }) => i)
}
