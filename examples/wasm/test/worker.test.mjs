/* KalmWorker in node: the same results by message. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { KalmError } from '../kalm.mjs'
import { KalmWorker } from '../worker.mjs'
import { native, passages, queries, tiny, tinyPath } from './common.mjs'

test('the same as native, from a Worker', async () => {
    const states = []
    const kalm = await KalmWorker.load(tinyPath, { threads: 1, onProgress: (state) => states.push(state) })
    assert.equal(kalm.info.name, 'tiny')
    assert.ok(states.length)
    const parts = []
    const got = await kalm.rerank(queries[0], passages(), { onProgress: ({ part }) => parts.push(part) })
    assert.deepEqual(got.map((r) => r.index), (await native(tinyPath, queries[0])).map((r) => r.index))
    assert.equal(parts.at(-1), 1)
    const docs = await kalm.encode(passages(), { ratio: 2, bits: 8 })
    assert.equal(docs.length, 15)
    assert.deepEqual([(await kalm.docInfo(docs[0])).ratio, (await kalm.docInfo(await kalm.repool(docs[0], 8))).ratio], [2, 8])
    assert.equal((await kalm.rerank(queries[0], docs, { topK: 1 }))[0].index, 1)
    assert.equal(await kalm.detokenize(await kalm.tokenize('naïve')), 'naïve')
    await kalm.verify()
    kalm.free()
    await assert.rejects(kalm.rerank('q', []), { code: 'BAD_ARGUMENT' })
})

test('cancelled, and alive after it', async () => {
    const kalm = await KalmWorker.load(tiny(), { threads: 1 })
    const many = Array.from({ length: 40 }, () => passages()).flat()
    const stop = new AbortController()
    const began = performance.now()
    await assert.rejects(kalm.rerank('q', many, { signal: stop.signal, onProgress: () => stop.abort() }),
        (error) => error instanceof KalmError && error.name === 'AbortError')
    assert.ok(performance.now() - began < 5000)
    assert.equal((await kalm.rerank(queries[0], passages()))[0].index, 1)
    const running = kalm.rerank('q', many)
    running.catch(() => {})
    kalm.free()
    await assert.rejects(running, { code: 'BAD_ARGUMENT' })
})

test('a progress function that throws ends its call, and no other', async () => {
    const kalm = await KalmWorker.load(tinyPath, { threads: 1 })
    const other = kalm.rerank(queries[0], passages())
    await assert.rejects(kalm.rerank('q', passages(), { onProgress() { throw new RangeError('mine') } }), { name: 'RangeError', message: 'mine' })
    assert.equal((await other)[0].index, 1)
    assert.equal((await kalm.rerank(queries[0], passages()))[0].index, 1)
    kalm.free()
    await assert.rejects(KalmWorker.load(tinyPath, { threads: 1, onProgress() { throw new RangeError('mine') } }), { message: 'mine' })
})

test('errors keep their class, code and sentence', async () => {
    await assert.rejects(KalmWorker.load(new Uint8Array(1000)), (error) => error instanceof KalmError
        && error.code === 'BAD_FILE' && /not a \.kalm file/.test(error.message))
    const kalm = await KalmWorker.load(tinyPath, { threads: 1 })
    await assert.rejects(kalm.encode(5), TypeError)
    await assert.rejects(kalm.encode(['x'], { bits: 5 }), { code: 'BAD_ARGUMENT' })
    kalm.free()
})

test('an ArrayBuffer can be moved instead of copied', async () => {
    const bytes = tiny()
    const kalm = await KalmWorker.load(bytes, { threads: 1, transfer: true })
    assert.equal(bytes.byteLength, 0)
    kalm.free()
})
