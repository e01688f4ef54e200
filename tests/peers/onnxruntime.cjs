// onnxruntime.cjs MODULES MODEL TOKENS THREADS SECONDS - tokens a second of the best run of ONNX Runtime, as JSON. MODULES is the
// folder node_modules that has onnxruntime-node.
'use strict';
const [modules, model, tokens, threads, seconds] = process.argv.slice(2);
const path = require('path').resolve(modules, 'onnxruntime-node');
const ort = require(path);

async function main() {
  const n = Number(tokens);
  const session = await ort.InferenceSession.create(model, {
    intraOpNumThreads: Number(threads), interOpNumThreads: 1, executionMode: 'sequential', graphOptimizationLevel: 'all',
  });
  const width = 640;
  const data = new Float32Array(n * width);
  for (let i = 0; i < data.length; i++) data[i] = (((i * 2654435761) >>> 16) & 255) / 128 - 1;
  const x = new ort.Tensor('float32', data, [n, width]);
  let best = Infinity;
  let finite = true;
  const end = Date.now() + 1000 * Number(seconds);
  for (let round = 0; round < 2 || Date.now() < end; round++) {
    const before = process.hrtime.bigint();
    const out = await session.run({ x });
    const took = Number(process.hrtime.bigint() - before) * 1e-9;
    if (round && took < best) best = took;               // the first run warms up
    const y = out[session.outputNames[0]].data;
    finite = finite && Number.isFinite(y[0]) && y.length === n * width;
  }
  if (!finite) throw new Error('the model gave no numbers');
  console.log(JSON.stringify({ tokens_per_second: n / best, version: require(`${path}/package.json`).version }));
}

main().catch((e) => { console.error(String(e)); process.exit(1); });
