/* kalm.node.mjs - the package's entry in Node: kalm.mjs with what it needs of Node at hand, so that bundlers see it. */
import { useNode } from './kalm.mjs'
import * as node from './node.mjs'

useNode(node)

export { Kalm, Kalm as default, KalmError, features } from './kalm.mjs'
