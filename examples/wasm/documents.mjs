/* documents.mjs - files of documents to arrays of texts: one text a line, or JSON Lines with "text" and maybe "title". */

export class FileError extends Error {}

const isObject = (line) => line.trimStart().startsWith('{')

/* [{ text }] of a file's content; `name` is for errors and tells the form: .jsonl, .ndjson, or by its first line. */
export function parseDocuments(content, name = 'the file') {
    const lines = content.replace(/^\ufeff/, '').split(/\r\n|\n|\r/)
    const first = lines.find((line) => line.trim())
    if (first === undefined) throw new FileError(`“${name}” holds no text`)
    if (content.slice(0, 4096).includes('\0')) throw new FileError(`“${name}” is not a text file`)
    if (!/\.(jsonl|ndjson)$/i.test(name) && !isObject(first)) return lines.map((l) => l.trim()).filter(Boolean)
    return lines.flatMap((line, i) => {
        if (!line.trim()) return []
        let value
        try {
            value = JSON.parse(line)
        } catch (error) {
            throw new FileError(`“${name}”, line ${i + 1}: ${error.message}`)
        }
        if (typeof value?.text !== 'string') throw new FileError(`“${name}”, line ${i + 1} has no "text"`)
        return [typeof value.title === 'string' && value.title ? `${value.title} ${value.text}` : value.text]
    })
}
