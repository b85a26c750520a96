
// Of many images in one frame, any two are shown: added to the viewer of one pair.

const { images } = data.viewer; // names, and what their grey levels are
const ROLES = { fixed: "fixed", moving: "after" }; // and what the viewer calls them
const pickers = {};
POSES.length = 1; // by their headers the images are in no common frame
delete MODES.poses;
for (const control of document.querySelectorAll(".poses")) control.remove();

function cast(role, k) {
  const name = ROLES[role];
  data.viewer[role] = images[k].levels;
  voxels[name] = voxels[k];
  volumes[name] = volumes[k];
  state.window[role] = [...images[k].levels.window];
  pickers[role].value = k;
  delete steepnesses[name];
}

function show(fixed, moving) {
  cast("fixed", fixed);
  cast("moving", moving);
  edgesKept.clear();
  Object.values(ROLES).forEach(rank);
  data.opposite = areOpposite();
  for (const row of document.querySelectorAll("tr[data-pair]")) {
    row.classList.toggle("chosen", row.dataset.pair === `${fixed} ${moving}`);
  }
}

for (const role of Object.keys(ROLES)) {
  pickers[role] = element("select", {
    id: `pick-${role}`,
    onchange: () => {
      show(Number(pickers.fixed.value), Number(pickers.moving.value));
      refresh();
    },
  }, ...images.map((image, k) => element("option", { value: k }, image.name)));
}
$("modes").before(element("div", { class: "bar controls" },
  ...Object.entries(pickers).map(([role, picker]) => element("label", {}, `${role} image `, picker))));

for (const row of document.querySelectorAll("tr[data-pair]")) {
  row.querySelector("button").addEventListener("click", () => {
    show(...row.dataset.pair.split(" ").map(Number));
    $("viewer").scrollIntoView();
    refresh();
  });
}

main(() => show(0, 1));
