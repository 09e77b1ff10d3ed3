// Lays a graph out with dagre, beside the page: it takes a while, and the page goes on.
import { Graph, layout } from "../vendor/dagre.js";
import { NODE, widthOf } from "./ranks.js";

/** `{names, needs}` comes in, `{boxes, ways, width, height}` goes back. */
self.onmessage = ({ data: { names, needs } }) => {
  const graph = new Graph();
  graph.setGraph({ rankdir: "LR", nodesep: NODE.gapY, ranksep: NODE.gapX, edgesep: 8 });
  graph.setDefaultEdgeLabel(() => ({}));
  // By number: names are anything, and dagre keeps nodes as properties of an object.
  const numbers = new Map(names.map((name, number) => [name, String(number)]));
  for (const [name, number] of numbers) {
    graph.setNode(number, { width: widthOf(name), height: NODE.height });
  }
  for (const [name, number] of numbers) {
    for (const need of needs.get(name)) graph.setEdge(numbers.get(need), number);
  }
  layout(graph);
  const { width, height } = graph.graph();
  const nodes = names.map((name) => graph.node(numbers.get(name)));
  const down = isUpsideDown(nodes) ? (y) => height - y : (y) => y;
  const boxes = new Map(names.map((name, at) => [name, boxOf(nodes[at], down)]));
  const ways = graph.edges().map((edge) => ({
    from: names[Number(edge.v)],
    to: names[Number(edge.w)],
    points: graph.edge(edge).points.map(({ x, y }) => ({ x, y: down(y) })),
  }));
  self.postMessage({ boxes, ways, width, height });
};

function boxOf({ x, y, width, height }, down) {
  return { x, y: down(y), width, height };
}

/** Whether tasks of one column stand rather against the order in which they were submitted. */
function isUpsideDown(nodes) {
  let balance = 0;
  for (const [at, node] of nodes.entries()) {
    for (const later of nodes.slice(at + 1)) {
      if (Math.abs(later.x - node.x) < 1) balance += Math.sign(later.y - node.y);
    }
  }
  return balance < 0;
}
