// Draws the maps: what a map shall show stands in the data- attributes of its box (map.py), and names are text always.
window.curupiraMap = (() => {
  const LOOK_AGAIN_MS = 150;
  const CLOSEST = 16;

  function begin(id) {
    const component = getElement(id);
    const host = component?.$el?.closest(".map");
    if (!component?.map || !host || host.dataset.drawn) return;
    host.dataset.drawn = "yes";
    draw(component.map, host);
  }

  function draw(map, host) {
    const words = JSON.parse(host.dataset.words);
    map.setMaxZoom(20);
    L.control.zoom({ zoomInTitle: words.in, zoomOutTitle: words.out }).addTo(map);
    L.control.scale({ imperial: false }).addTo(map);
    north(words.north).addTo(map);
    grid().addTo(map);  // below tiles too: no file has them everywhere, and close enough
    if (host.dataset.tiles) tiles(host).addTo(map);
    const chooses = Boolean(host.dataset.chooses);
    const devices = L.layerGroup().addTo(map);
    const incidents = L.layerGroup().addTo(map);
    let moved = false;
    let asked = 0;
    let waiting = null;

    async function lookForDevices() {
      const turn = ++asked;
      const seen = map.getBounds();
      const within = (value, most) => Math.max(-most, Math.min(most, value));
      const query = new URLSearchParams({
        zoom: Math.round(map.getZoom()), only: host.dataset.devices,
        west: within(seen.getWest(), 180), east: within(seen.getEast(), 180),
        south: within(seen.getSouth(), 90), north: within(seen.getNorth(), 90),
      });
      const answer = await fetch(`/map/devices?${query}`).catch(() => null);
      if (!answer?.ok || turn !== asked) return;  // what is drawn stays; the frame says where the link is gone
      const { marks } = await answer.json();
      if (turn !== asked) return;
      devices.clearLayers();
      for (const mark of marks) deviceMark(map, mark, !chooses).addTo(devices);
      host.dataset.marks = marks.length;
    }

    function lookSoon() {
      if (host.dataset.devices === undefined) return;
      clearTimeout(waiting);
      waiting = setTimeout(lookForDevices, LOOK_AGAIN_MS);
    }

    function show() {
      incidents.clearLayers();
      for (const spot of JSON.parse(host.dataset.spots || "[]")) addSpot(spot, incidents, words);
    }

    function fit() {
      if (moved || !host.dataset.view) return;
      map.fitBounds(JSON.parse(host.dataset.view), { maxZoom: CLOSEST, padding: [28, 28], animate: false });
    }

    map.on("moveend", lookSoon);
    // only what the reader does himself counts: fitBounds fires the same events
    for (const event of ["pointerdown", "keydown", "dblclick"]) {
      map.getContainer().addEventListener(event, () => { moved = true; }, true);
    }
    new MutationObserver((changes) => {
      const changed = new Set(changes.map((change) => change.attributeName));
      if (changed.has("data-spots")) show();
      if (changed.has("data-view")) fit();
      if (changed.has("data-turn")) lookSoon();
    }).observe(host, { attributes: true, attributeFilter: ["data-spots", "data-view", "data-turn"] });
    if (chooses) choose(map, host);
    new ResizeObserver(() => { map.invalidateSize(); fit(); }).observe(map.getContainer());
    show();
    fit();
    lookSoon();
  }

  function grid() {
    const Grid = L.GridLayer.extend({ createTile: () => element("div", "map-grid") });
    return new Grid({ tileSize: 64 });
  }

  // a tap is written into the form's fields, and what is typed there is shown: neither is the only way
  function choose(map, host) {
    const fields = ["latitude", "longitude"].map((name) => host.closest("form").elements[name]);
    const pin = marker([0, 0], element("span", "sign chosen"), 30, "", false);
    pin.options.interactive = false;
    function put() {
      const at = fields.map((field) => field.value.trim() && Number(field.value.trim().replace("\u2212", "-").replace(",", ".")));
      const known = at.every((value, place) => value !== "" && Math.abs(value) <= [90, 180][place]);
      if (known) pin.setLatLng(at).addTo(map);
      else pin.remove();
    }
    map.on("click", ({ latlng }) => {
      const at = latlng.wrap();
      [at.lat, at.lng].forEach((value, place) => { fields[place].value = value.toFixed(5); });
      put();
    });
    for (const field of fields) field.addEventListener("input", put);
    put();
  }

  function tiles(host) {
    const { lowest, highest, bounds } = JSON.parse(host.dataset.tiles);
    const [west, south, east, north_] = bounds ?? [-180, -85, 180, 85];
    return L.tileLayer("/tiles/{z}/{x}/{y}", {
      minZoom: lowest, maxNativeZoom: highest, maxZoom: 20, className: "map-tiles", bounds: [[south, west], [north_, east]],
    });
  }

  function north(word) {
    const control = L.control({ position: "topright" });
    control.onAdd = () => {
      const sign = element("div", "north", word);
      sign.setAttribute("aria-hidden", "true");
      return sign;
    };
    return control;
  }

  function deviceMark(map, mark, leads) {
    const at = [mark.latitude, mark.longitude];
    if (mark.count > 1) {
      const group = marker(at, element("span", `group ${mark.state}`, String(mark.count)), 34, "", false);
      return group.on("click", () => map.setView(at, Math.min(map.getZoom() + 2, 20)));
    }
    const one = marker(at, element("span", `sign ${mark.state}`), 20, mark.title, leads);
    if (!leads) return one.on("click", () => map.fire("click", { latlng: one.getLatLng() }));
    return one.on("click", () => location.assign(`/devices/${encodeURIComponent(mark.device_id)}`));
  }

  function addSpot(spot, layer, words) {
    const at = [spot.latitude, spot.longitude];
    const within = words.within.replace("{metres}", Math.round(spot.radius_m));
    L.circle(at, { radius: spot.radius_m, className: `off ${spot.kind}${spot.drill ? " drill" : ""}`, interactive: false }).addTo(layer);
    const shape = element("span", `sign ${spot.kind}${spot.drill ? " drill" : ""}`);
    const one = marker(at, shape, 28, `${spot.title}, ${within}`, Boolean(spot.href)).addTo(layer);
    one.setZIndexOffset(1000);
    if (spot.href) one.on("click", () => location.assign(spot.href));
  }

  function marker(at, content, size, title, reached) {
    const icon = L.divIcon({ html: content, className: "spot", iconSize: [size, size] });
    const made = L.marker(at, { icon, title, keyboard: reached, interactive: true, riseOnHover: true });
    if (reached) made.on("keypress", (event) => event.originalEvent.key === "Enter" && made.fire("click"));
    return made;
  }

  function element(tag, classes, content = "") {
    const made = document.createElement(tag);
    made.className = classes;
    made.textContent = content;
    return made;
  }

  return { begin };
})();
