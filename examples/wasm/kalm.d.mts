/* kalm.d.mts - what kalm.mjs promises. It needs no DOM library: what a program has of the web's types is taken where it is there. */

type Of<Name extends string> = typeof globalThis extends { [N in Name]: { prototype: infer T } } ? T : never
type WebURL = Of<'URL'>
type Signal = Of<'AbortSignal'>

/** The library's result codes; `message` of a KalmError is the library's sentence. */
export type KalmCode = 'BAD_ARGUMENT' | 'NO_MEMORY' | 'CANNOT_READ' | 'BAD_FILE' | 'BAD_VERSION' | 'MISMATCH' | 'NO_KERNELS'
    | 'CANCELLED' | 'OVERFLOW' | 'INCOMPLETE'

export class KalmError extends Error {
    constructor(code: KalmCode, message: string, cause?: unknown)
    /** "AbortError" when the code is CANCELLED, else "KalmError". */
    name: string
    code: KalmCode
}

/** Where a model comes from. Strings are URLs; in node also paths of files. */
export type KalmSource = string | WebURL | ArrayBuffer | ArrayBufferView | Of<'Blob'> | Of<'Response'> | Of<'ReadableStream'>
    | AsyncIterable<Uint8Array>

export interface LoadOptions {
    /** In Node "native" is the default where the package has an addon for the machine, unless `simd`, `relaxed`, `wasm` or `assets` ask
        for a WebAssembly module; "native" where there is none rejects with NO_KERNELS and says what was looked for. Margins and
        documents are the same bits in both with 8-bit and 4-bit weights. */
    backend?: 'native' | 'wasm'
    /** Natively a path is mapped, and the file must then stay as it is; false: it is read into memory. Default true. */
    mmap?: boolean
    /** Default: what the machine has. */
    simd?: boolean
    /** Relaxed SIMD. Default: where the machine has it and dist/ too; results are the same but for the rounding of float weights. */
    relaxed?: boolean
    /** Default: natively one per core that the process may use; in WebAssembly one per core, at most 8, where memory can be shared and
        the caller may wait (not on a page itself); else 1. */
    threads?: number
    /** Longer documents are cut; default 1024. */
    maxDocTokens?: number
    /** Longer queries are cut; default 512. */
    maxQueryTokens?: number
    /** Decoder state kept for the next query with the same instruction; default none. */
    cacheBytes?: number
    /** 8 or 4: that state takes two thirds or half of the bytes, and scores change a little; default 0: exact. */
    stateBits?: number
    /** Name of a kernel set; default the best. */
    kernels?: string
    /** Compare the whole file with its checksums; default false. */
    verify?: boolean
    /** Bytes so far, and of the whole file. */
    onProgress?: (state: { loaded: number, total: number }) => void
    signal?: Signal
    /** Milliseconds without an answer or another byte, of the model or of a file of this package, after which load() rejects
        with CANNOT_READ and the address; default 30000, 0 or Infinity: no end. */
    timeout?: number
    /** Where the files of dist/ are, when not beside kalm.mjs: a folder's address. */
    assets?: string | WebURL
    /** The WebAssembly module alone, likewise. */
    wasm?: string | WebURL | ArrayBuffer | ArrayBufferView | object
}

export interface JobOptions {
    /** Marks like <end_of_turn> in the texts act on the prompt; default false: they are plain characters. */
    parseControl?: boolean
    /** part: 0 to 1 of the work; done: documents finished, of total. Natively every 10 ms at most. */
    onProgress?: (state: { part: number, done: number, total: number }) => void
    signal?: Signal
}

export interface EncodeOptions extends JobOptions {
    /** Tokens pooled into one row, any number from 1; default 4. */
    ratio?: number
    /** Of each number kept; default 16. */
    bits?: 32 | 16 | 8 | 4 | 3 | 2
}

export interface RerankOptions extends EncodeOptions {
    /** What makes a document a good one; default: the model's own sentence. */
    instruction?: string
    /** The sentence before it; default: the model's own. */
    system?: string
    /** How many to return; default all. */
    topK?: number
}

export interface Ranked {
    /** Of the document in the call's array. */
    index: number
    /** P(yes), 0 to 1. */
    score: number
    /** Logit of "yes" minus that of "no": the same order, finer near 0 and 1. */
    margin: number
    /** Only the beginning of the document or of the query was read. */
    cut: boolean
    /** Only the beginning of the document was read (maxDocTokens). */
    cutDocument: boolean
    /** Only the beginning of the query was read (maxQueryTokens): queries that begin alike have equal scores. */
    cutQuery: boolean
}

export interface DocInfo {
    tokens: number
    tokensUsed: number
    rows: number
    ratio: number
    width: number
    bits: number
}

export interface KalmInfo {
    name: string
    weights: 'f32' | 'f16' | 'bf16' | 'q8' | 'q4' | 'none'
    vocabulary: number
    layers: number
    width: number
    maxTokens: number
    hasTokenizer: boolean
    /** False in a part of a model (kalm-quantize --side): encode(), and rerank() of texts, throw INCOMPLETE. */
    hasEncoder: boolean
    /** False in a part of a model: rerank() throws INCOMPLETE. */
    hasDecoder: boolean
    yesId: number
    noId: number
    /** Of the model file. */
    bytes: number
    /** 16 hexadecimal digits; stored documents carry it. */
    fingerprint: string
    /** Of a vocabulary that lacks tokens of the whole model's (kalm-quantize --vocabulary), a hash; else null. */
    cutVocabulary: string | null
    build: 'native' | 'relaxed' | 'simd' | 'plain' | 'relaxed-threads' | 'simd-threads' | 'plain-threads'
    kernels: string
    threads: number
    /** Bytes of the WebAssembly memory now; natively those of the context and of a model that is not mapped. */
    memory: number
    version: string
}

/** What this machine can run. */
export function features(): { simd: boolean, relaxed: boolean, threads: boolean }

/** One model. Results are the same on every machine and with any number of threads, up to the rounding of floats. */
export class Kalm {
    private constructor()
    /** Natively a file's path is mapped. Anything else streams into memory as it arrives; no second copy is made. */
    static load(source: KalmSource, options?: LoadOptions): Promise<Kalm>
    readonly info: KalmInfo
    /** Ids of the text alone, no begin mark added. */
    tokenize(text: string, options?: { parseControl?: boolean }): Int32Array
    detokenize(tokens: ArrayLike<number>): string
    /** Documents as bytes: position-independent and the same on every machine. Keep them in IndexedDB, a file, a database. */
    encode(text: string, options?: EncodeOptions): Promise<Uint8Array>
    encode(texts: readonly string[], options?: EncodeOptions): Promise<Uint8Array[]>
    /** Best first. Documents are texts or what encode() gave; stored ones are pooled to `ratio` where it is given, which must be
        a multiple of their own. */
    rerank(query: string, documents: readonly (string | Uint8Array)[], options?: RerankOptions): Promise<Ranked[]>
    docInfo(document: Uint8Array): DocInfo
    /** The document at a coarser ratio, a multiple of its own; bits 0: those it has. */
    repool(document: Uint8Array, ratio: number, bits?: 32 | 16 | 8 | 4 | 3 | 2 | 0): Uint8Array
    /** Compare every section of the file with its checksum; throws BAD_FILE. It blocks; LoadOptions.verify does not, natively. */
    verify(): void
    /** Give the memory back. Twice is fine. */
    free(): void
}

export default Kalm
