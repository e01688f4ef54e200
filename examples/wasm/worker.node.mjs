/* worker.node.mjs - the entry kalm-rerank/worker in Node. */
import './kalm.node.mjs'

export { KalmWorker, KalmWorker as default } from './worker.mjs'
