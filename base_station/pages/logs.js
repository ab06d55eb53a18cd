// Field logs on their way in: files that were chosen or dropped go to the API, one request for each folder or archive.
(() => {
  const SEGMENT = /^journal-\d{8}\.jsonl(\.gz)?$/;
  const ARCHIVE = /\.(zip|tar|tar\.gz|tgz)$/i;
  const MOST_FILES = 20000;
  let busy = false;

  const zone = () => document.querySelector(".drop");
  const tell = (what) => emitEvent("journals", what);

  // What was chosen or dropped, as [path, file]: a folder that is dropped is walked through.
  const chosen = (files) => [...files].map((file) => [file.webkitRelativePath || file.name, file]);

  async function dropped(transfer) {
    const entries = [...transfer.items].map((item) => item.webkitGetAsEntry?.()).filter(Boolean);
    if (!entries.length) return chosen(transfer.files);
    const found = [];
    while (entries.length && found.length < MOST_FILES) {
      const entry = entries.shift();
      if (entry.isDirectory) entries.push(...(await contents(entry.createReader())));
      else found.push([entry.fullPath.slice(1), await new Promise((done, failed) => entry.file(done, failed))]);
    }
    return found;
  }

  async function contents(reader) {
    const all = [];
    for (;;) {  // a browser gives a hundred at a time
      const some = await new Promise((done, failed) => reader.readEntries(done, failed));
      if (!some.length) return all;
      all.push(...some);
    }
  }

  // The journal of each device is a folder of its own: two of them have files of one name.
  function parcels(found) {
    const folders = new Map();
    const archives = [];
    for (const [path, file] of found) {
      if (ARCHIVE.test(file.name)) archives.push({ name: path, path: "/v1/journals/archive", field: "archive", files: [file] });
      if (!SEGMENT.test(file.name)) continue;
      const name = path.includes("/") ? path.slice(0, path.lastIndexOf("/")) : "";
      if (!folders.has(name)) folders.set(name, { name, path: "/v1/journals", field: "files", files: [] });
      folders.get(name).files.push(file);
    }
    return [...folders.values(), ...archives];
  }

  function send(parcel, onProgress) {
    return new Promise((done) => {
      const body = new FormData();
      for (const file of parcel.files) body.append(parcel.field, file, file.name);
      const request = new XMLHttpRequest();
      request.open("POST", parcel.path);
      request.setRequestHeader("X-Curupira-CSRF", zone().dataset.csrf);
      request.responseType = "json";
      request.upload.onprogress = (event) => onProgress(event.loaded);
      request.onload = () => done([request.status, request.response]);
      request.onerror = () => done([0, null]);
      request.send(body);
    });
  }

  async function take(found) {
    if (busy) return;
    const all = parcels(found);
    const size = (files) => files.reduce((sum, file) => sum + file.size, 0);
    if (!all.length) return tell({ kind: "nothing", passed: found.length });
    busy = true;
    const bar = zone().querySelector("progress");
    bar.hidden = false;
    bar.max = all.reduce((sum, parcel) => sum + size(parcel.files), 0) || 1;
    bar.value = 0;
    tell({ kind: "begin", files: all.reduce((sum, parcel) => sum + parcel.files.length, 0), bytes: bar.max });
    let sent = 0;
    for (const parcel of all) {
      const [status, answer] = await send(parcel, (loaded) => { bar.value = sent + Math.min(loaded, size(parcel.files)); });
      sent += size(parcel.files);
      tell({ kind: "answer", name: parcel.name, status, answer });
    }
    bar.hidden = true;
    busy = false;
    tell({ kind: "end" });
  }

  document.addEventListener("change", (event) => {
    if (!event.target.matches?.(".drop input[type=file]")) return;
    take(chosen(event.target.files));
    event.target.value = "";
  });
  for (const kind of ["dragenter", "dragover", "dragleave", "drop"]) {
    document.addEventListener(kind, (event) => {
      if (!zone() || ![...(event.dataTransfer?.types ?? [])].includes("Files")) return;
      event.preventDefault();  // dropped beside it, a file would open instead of the page
      const inside = zone().contains(event.target);
      zone().classList.toggle("over", inside && (kind === "dragenter" || kind === "dragover"));
      if (kind === "drop" && inside) dropped(event.dataTransfer).then(take);
    });
  }
})();
