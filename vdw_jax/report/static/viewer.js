// One structure in three dimensions. 3Dmol.js is read only when the first one is to be drawn.

const VACUUM_SHOWN = 1.5; // Angstrom beyond the outer atoms, where the vacuum is not drawn
const BALL = 0.5, STICK = 0.17; // of the covalent radius; Angstrom
const FILL = 1.6; // 3Dmol leaves that much room around what it zooms to

function makeViewer() {
  const place = byId("view");
  let viewer = null;
  let current = null;

  function start() {
    if (viewer || place.querySelector("p")) return;
    const canvas = document.createElement("canvas");
    if (!(canvas.getContext("webgl2") || canvas.getContext("webgl"))) {
      place.append(element("p", {}, "This browser has no WebGL, so structures are not drawn. The CIF files have them."));
      return;
    }
    document.head.append(element("script", {}, byId("viewer-code").textContent));
    viewer = window.$3Dmol.createViewer(place, { backgroundColor: "white", orthographic: true, disableFog: true });
  }

  // Lattice vectors and the height that is drawn: all of c, or that of a slab's atoms.
  function cellOf(structure) {
    const vectors = [0, 3, 6].map((k) => structure.cell.slice(k, k + 3));
    if (!structure.slab || byId("vacuum").checked) return { vectors, floor: 0 };
    const heights = structure.positions.filter((_, k) => k % 3 === 2);
    const floor = Math.min(...heights) - VACUUM_SHOWN;
    return { vectors: [vectors[0], vectors[1], [0, 0, Math.max(...heights) + VACUUM_SHOWN - floor]], floor };
  }

  function atomsOf(structure, repeat) {
    const atoms = [];
    const images = structure.slab ? 1 : repeat;
    for (let i = 0; i < repeat; i += 1) for (let j = 0; j < repeat; j += 1) for (let k = 0; k < images; k += 1) {
      structure.numbers.forEach((number, n) => {
        const [x, y, z] = [0, 1, 2].map((axis) => structure.positions[3 * n + axis]
          + i * structure.cell[axis] + j * structure.cell[3 + axis] + k * structure.cell[6 + axis]);
        const { symbol, radius } = data.elements[number];
        atoms.push({ elem: symbol, x, y, z, radius, chalcogen: [8, 16, 34, 52].includes(number), bonds: [], bondOrder: [] });
      });
    }
    // As metrics/layers.py bonds them: by covalent radii, chalcogens never with each other.
    atoms.forEach((a, i) => {
      for (let j = i + 1; j < atoms.length; j += 1) {
        const b = atoms[j];
        const reach = data.bond_factor * (a.radius + b.radius);
        if ((a.chalcogen && b.chalcogen) || (a.x - b.x) ** 2 + (a.y - b.y) ** 2 + (a.z - b.z) ** 2 > reach ** 2) continue;
        a.bonds.push(j);
        a.bondOrder.push(1);
        b.bonds.push(i);
        b.bondOrder.push(1);
      }
    });
    return atoms;
  }

  function addCell({ vectors, floor }) {
    const corner = (i, j, k) => {
      const [x, y, z] = [0, 1, 2].map((axis) => i * vectors[0][axis] + j * vectors[1][axis] + k * vectors[2][axis]);
      return { x, y, z: z + floor };
    };
    for (const [p, q] of [[0, 0], [0, 1], [1, 0], [1, 1]]) {
      for (const ends of [[[0, p, q], [1, p, q]], [[p, 0, q], [p, 1, q]], [[p, q, 0], [p, q, 1]]]) {
        const [from, to] = ends.map((end) => corner(...end));
        viewer.addCylinder({ start: from, end: to, radius: 0.035, color: "#1b1f24", fromCap: 1, toCap: 1 });
      }
    }
    const style = { fontSize: 13, fontColor: "#1b1f24", backgroundOpacity: 0, inFront: true, alignment: "center" };
    viewer.addLabel("a", { ...style, position: corner(1.08, 0, 0) });
    viewer.addLabel("b", { ...style, position: corner(0, 1.08, 0) });
  }

  function look(from) {
    viewer.setView([0, 0, 0, 0, 0, 0, 0, 1]);
    if (from === "side") {
      viewer.rotate(-90, "x");
      viewer.rotate(6, "x");
    }
    viewer.zoomTo();
    viewer.zoom(FILL);
    viewer.render();
  }

  function show(index, keepView = false) {
    start();
    current = index;
    const structure = data.structures[index];
    place.setAttribute("aria-label", `Structure of ${value(index, "id")}, ${value(index, "formula")}, species along c `
      + `${value(index, "sequence") || "not known"}. Arrow keys turn it, plus and minus zoom.`);
    const present = [...new Set(structure.numbers)].sort((a, b) => a - b).map((number) => {
      const { symbol, colour } = data.elements[number];
      const spot = element("i");
      spot.style.background = colour;
      return element("li", {}, spot, symbol);
    });
    byId("legend").replaceChildren(...present);
    if (!viewer) return;
    viewer.removeAllModels();
    viewer.removeAllShapes();
    viewer.removeAllLabels();
    const model = viewer.addModel();
    model.addAtoms(atomsOf(structure, Number(byId("repeat").value)));
    for (const number of new Set(structure.numbers)) {
      const { symbol, colour, radius } = data.elements[number];
      model.setStyle({ elem: symbol }, { sphere: { radius: BALL * radius, color: colour }, stick: { radius: STICK, color: colour } });
    }
    addCell(cellOf(structure));
    if (keepView) viewer.render(); else look("side");
  }

  byId("repeat").addEventListener("change", () => show(current));
  byId("vacuum").addEventListener("change", () => show(current));
  byId("side").addEventListener("click", () => viewer && look("side"));
  byId("top").addEventListener("click", () => viewer && look("top"));
  place.addEventListener("keydown", (event) => {
    const turn = { ArrowLeft: [-8, "vy"], ArrowRight: [8, "vy"], ArrowUp: [-8, "vx"], ArrowDown: [8, "vx"] }[event.key];
    const zoom = { "+": 1.15, "=": 1.15, "-": 1 / 1.15 }[event.key];
    if (!viewer || (!turn && !zoom)) return;
    event.preventDefault();
    if (turn) viewer.rotate(...turn); else viewer.zoom(zoom);
    viewer.render();
  });
  window.addEventListener("beforeprint", () => {
    if (!viewer) return;
    const picture = element("img", { alt: place.getAttribute("aria-label"), src: viewer.pngURI() });
    place.querySelector("canvas").hidden = true;
    place.append(picture);
  });
  window.addEventListener("afterprint", () => {
    place.querySelector("img")?.remove();
    if (viewer) place.querySelector("canvas").hidden = false;
  });
  if (data.structures.some((structure) => structure.slab)) byId("repeat").value = "3";
  else byId("vacuum").parentNode.hidden = true;
  return { show };
}
