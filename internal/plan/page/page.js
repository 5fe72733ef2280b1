// The page: what stands on it, from the plan that plan.js computes. It uses no network and no storage; the address after # holds
// what was changed, so that a link keeps it.
"use strict";
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const copy = (v) => JSON.parse(JSON.stringify(v));
  const start = plan.compute(copy(data.input), data.texts);
  let input = fromAddress() || copy(data.input), now = start, zoom = null;
  const minute = 60, hour = 60 * minute, day = 24 * hour, gib = 2 ** 30;
  const $ = (id) => document.getElementById(id);
  const colour = (i) => `var(--c${i % 6})`;
  const many = (n, one, more) => n === 1 ? "1 " + one : plan.count(n) + " " + more;
  const times = (...list) => list.map((v) => [v, v === 0 ? "none" : plan.duration(v)]);

  // Elements.
  function element(name, attributes = {}, ...children) {
    const e = document.createElement(name);
    for (const [k, v] of Object.entries(attributes)) {
      if (k.startsWith("on")) e.addEventListener(k.slice(2), v);
      else if (k === "background") e.style.background = v;
      else if (v !== undefined) e.setAttribute(k, v);
    }
    e.append(...children);
    return e;
  }
  function drawing(name, attributes = {}, ...children) {
    const e = document.createElementNS("http://www.w3.org/2000/svg", name);
    for (const [k, v] of Object.entries(attributes)) k === "fill" ? e.style.fill = v : e.setAttribute(k, v);
    e.append(...children);
    return e;
  }

  // A slider moves over a list of usual values; the one in use is among them, whatever it is.
  function among(list, value, show) {
    const out = list.slice();
    if (!out.some(([v]) => v === value)) out.push([value, show(value)]);
    return out.sort((a, b) => a[0] - b[0]);
  }
  function decades(low, high) {
    const out = [];
    for (let d = low; d < high; d *= 10) for (const m of [1, 1.5, 2, 3, 4, 5, 6, 8]) out.push([d * m, plan.count(d * m)]);
    out.push([high, plan.count(high)]);
    return out;
  }
  const whole = (from, to) => Array.from({length: to - from + 1}, (_, i) => [from + i, plan.count(from + i)]);
  const sizes = (list) => [[0, "not given"], ...list.map((g) => [g * gib, plan.bytes(g * gib)])];
  const groups = {
    workload: [
      ["series", "Active series", decades(1000, 1e8), plan.count],
      ["scrape_seconds", "A sample every", times(1, 5, 10, 15, 20, 30, 60, 120, 300), plan.duration],
      ["churn_per_day", "New series each day", [0, 0.02, 0.05, 0.1, 0.2, 0.3, 0.5, 0.75, 1, 1.5, 2, 3, 5].map((v) => [v, plan.percent(v)]), plan.percent],
    ],
    cluster: [
      ["nodes", "Database nodes", whole(1, 60), plan.count],
      ["replicas", "Replicas", whole(1, 5), plan.count],
      ["shards", "Shards", [4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096].map((v) => [v, plan.count(v)]), plan.count],
      ["coordinators", "Coordinators", whole(1, 20), plan.count],
      ["downsample_past_seconds", "bufferPastLimits", [[0, "M3's own"], ...times(15, 30, 60, 120, 180, 300, 480, 600, 1200)], plan.duration],
    ],
    given: [
      ["node_disk_bytes", "Disk of a node", sizes([50, 100, 200, 300, 500, 750, 1024, 1536, 2048, 3072, 4096, 8192, 16384]), plan.bytes],
      ["node_memory_bytes", "Memory of a node", sizes([4, 8, 16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512]), plan.bytes],
      ["coordinator_memory_bytes", "Memory of a coordinator", sizes([1, 2, 4, 8, 16, 24, 32, 48, 64, 96, 128, 256]), plan.bytes],
    ],
  };
  function sliders() {
    for (const [group, list] of Object.entries(groups)) {
      $(group).replaceChildren(...list.map(([key, label, usual, show]) => {
        const steps = among(usual, input[key], show);
        const at = steps.findIndex(([v]) => v === input[key]);
        const out = element("output", {}, steps[at][1]);
        const range = element("input", {
          type: "range", id: "s-" + key, min: 0, max: steps.length - 1, step: 1, value: at, "aria-label": label, "aria-valuetext": steps[at][1],
          oninput: () => {
            const [value, text] = steps[+range.value];
            out.textContent = text;
            range.setAttribute("aria-valuetext", text);
            input[key] = value;
            if (["nodes", "replicas", "shards"].includes(key)) input.shards_per_node = 0; // what a real placement says no longer holds
            update();
          },
        });
        return element("label", {class: "slider"}, element("span", {}, label), out, range);
      }));
    }
  }

  // Namespaces and assumptions are tables of fields.
  const resolutions = [[0, "as sent (raw)"], ...times(1, 10, 15, 30, 60, 120, 300, 600, 1800, 3600)];
  const retentions = times(6 * hour, 12 * hour, day, 2 * day, 3 * day, 7 * day, 14 * day, 30 * day, 60 * day, 90 * day, 180 * day, 365 * day, 730 * day, 1095 * day);
  const blocks = times(30 * minute, hour, 2 * hour, 3 * hour, 4 * hour, 6 * hour, 8 * hour, 12 * hour, day, 2 * day, 4 * day, 7 * day);
  const buffers = times(0, minute, 2 * minute, 5 * minute, 10 * minute, 12 * minute, 20 * minute, 30 * minute, hour, 2 * hour);
  const shares = [0.01, 0.05, 0.1, 0.2, 0.3, 0.5, 0.75, 1].map((v) => [v, plan.percent(v)]);
  function field(n, key, label, usual, show) {
    const select = element("select", {"aria-label": `${label} of ${n.name}`, onchange: () => { n[key] = +select.value; update(); }},
      ...among(usual, n[key], show).map(([v, text]) => element("option", {value: v}, text)));
    select.value = String(n[key]);
    return element("td", {}, select);
  }
  function namespaceRows() {
    const head = ["Namespace", "Keeps", "A point every", "Block", "bufferPast", "Series", "Points a block", "Copies", "B/point", "Disk a node", "Files a node", "Points in memory", "Memory a node", "Aggregation", ""];
    const body = element("tbody", {}, ...input.namespaces.map((n, i) => {
      const raw = n.resolution_seconds === 0;
      const remove = element("button", {type: "button", "aria-label": "Drop " + n.name, title: "Drop", onclick: () => { input.namespaces.splice(i, 1); build(); }}, "×");
      return element("tr", {},
        element("td", {}, element("i", {background: colour(i)}), n.name),
        field(n, "retention_seconds", "Retention", retentions, plan.duration),
        raw ? element("td", {}, "as sent") : field(n, "resolution_seconds", "Resolution", resolutions.slice(1), plan.duration),
        field(n, "block_seconds", "Block size", blocks, plan.duration),
        field(n, "buffer_past_seconds", "bufferPast", buffers, plan.duration),
        field(n, "share", "Share of the series", shares, plan.percent),
        ...Array.from({length: 8}, () => element("td")),
        element("td", {}, raw ? "" : remove));
    }));
    $("namespaces").replaceChildren(element("thead", {}, element("tr", {}, ...head.map((h) => element("th", {}, h)))), body, element("tfoot", {}, element("tr", {}, ...head.map(() => element("td")))));
  }
  function assumptionRows() {
    const rows = data.assumptions.map((a) => {
      const box = element("input", {
        id: "a-" + a.key, type: "number", min: 0, step: "any", value: input.assume[a.key], "aria-label": a.key,
        oninput: () => {
          if (box.value === "" || !box.checkValidity()) return;
          input.assume[a.key] = +box.value;
          update();
        },
      });
      if (a.unit === "share") box.max = 1;
      return element("tr", {}, element("td", {}, element("code", {}, a.key)), element("td", {}, box),
        element("td", {class: "text unit"}, {bytes: "bytes", seconds: "seconds", share: "share of 1", factor: "times", count: "", rate: "a second"}[a.unit]),
        element("td", {class: "text"}, a.text), element("td", {class: "text source"}, a.source));
    });
    $("assumptions").replaceChildren(
      element("thead", {}, element("tr", {}, element("th", {}, "Assumption"), element("th", {}, "Value"), ...["Unit", "What it is", "Where from"].map((h) => element("th", {class: "text"}, h)))),
      element("tbody", {}, ...rows));
  }
  function addNamespace() {
    let i = input.namespaces.length;
    while (input.namespaces.some((n) => n.name === "agg_" + i)) i++;
    input.namespaces.push({name: "agg_" + i, resolution_seconds: 300, retention_seconds: 90 * day, block_seconds: day, buffer_past_seconds: 10 * minute, share: 1});
    build();
  }

  // What cannot be, as Validate says it.
  function faults(x) {
    const out = [];
    if (x.nodes < x.replicas) out.push(`${many(x.nodes, "node", "nodes")} cannot hold ${x.replicas} replicas of a shard; each replica needs a node of its own.`);
    for (const n of x.namespaces) {
      if (n.retention_seconds < n.block_seconds) out.push(`${n.name}: the retention must be a block or more.`);
      if (n.buffer_past_seconds >= n.block_seconds) out.push(`${n.name}: bufferPast must be less than a block.`);
      if (n.resolution_seconds > n.block_seconds) out.push(`${n.name}: a block must have room for a point.`);
    }
    for (const a of data.assumptions) {
      const v = x.assume[a.key];
      if (v === 0 && (a.unit === "rate" || a.unit === "share" || a.key === "heap_growth" || a.key === "points_per_block")) out.push(`${a.key} must be above 0.`);
    }
    return out;
  }

  // Results.
  function update() {
    const wrong = faults(input);
    $("faults").hidden = wrong.length === 0;
    $("faults").textContent = wrong.join(" ");
    document.querySelector("main").classList.toggle("stale", wrong.length > 0);
    const changed = JSON.stringify(input) !== JSON.stringify(data.input);
    $("reset").disabled = !changed;
    history.replaceState(null, "", changed ? "#" + encodeURIComponent(JSON.stringify(input)) : location.pathname + location.search);
    if (wrong.length > 0) return;
    now = plan.compute(copy(input), data.texts);
    summary();
    tiles();
    numbers();
    charts();
    $("findings").replaceChildren(...now.findings.map((f) => element("li", {}, element("span", {class: "badge " + f.level}, f.level), element("span", {}, plan.text(f, data.texts)))));
  }
  function summary() {
    const x = input;
    $("summary").textContent = `${plan.count(x.series)} series, a sample every ${plan.duration(x.scrape_seconds)}, on ${many(x.nodes, "node", "nodes")} with ` +
      `${many(x.replicas, "replica", "replicas")} and ${many(x.shards, "shard", "shards")} (${plan.count(now.shards_per_node)} on the fullest node), through ${many(x.coordinators, "coordinator", "coordinators")}.`;
  }
  function tiles() {
    const x = input, room = (given, fits) => given > 0 ? `has ${plan.bytes(given)}: ${plan.short(fits)} series` : "";
    const list = [
      ["Disk of a node", (p) => p.disk.needed_bytes, plan.bytes, room(x.node_disk_bytes, now.fits.disk) || `${plan.bytes(now.disk.used_bytes)} in use`, x.node_disk_bytes],
      ["Memory of a node", (p) => p.memory.needed_bytes, plan.bytes, room(x.node_memory_bytes, now.fits.memory) || `${plan.bytes(now.memory.used_bytes)} in use`, x.node_memory_bytes],
      ["Files of a node", (p) => p.files.files, plan.count, `${plan.count(now.files.filesets)} filesets`],
      ["Memory of a coordinator", (p) => p.coordinator.needed_bytes, plan.bytes, room(x.coordinator_memory_bytes, now.fits.coordinator_memory) || "while another is down", x.coordinator_memory_bytes],
      ["Cores for writes", (p) => p.node_cores, plan.short, `a node; ${plan.short(now.coordinator.cores)} a coordinator`],
      ["Samples a second", (p) => p.samples_per_second, plan.short, `${plan.short(now.writes_per_second)} points, ${plan.fixed(now.phases[0].copies, 2)} copies`],
    ];
    $("tiles").replaceChildren(...list.map(([name, of, show, more, given]) => {
      const a = of(start), b = of(now), part = a === 0 ? 0 : (b - a) / a;
      const delta = Math.abs(part) < 0.005 ? "" : part > 0 ? "▲ " + plan.percent(part) : "▼ " + plan.percent(-part);
      return element("div", {class: "tile" + (given > 0 && b > given ? " over" : "")}, element("div", {class: "name"}, name), element("div", {class: "value"}, show(b)),
        element("div", {class: "more"}, element("span", {class: "delta"}, delta), delta ? " · " : "", more));
    }));
  }
  function numbers() {
    const rows = $("namespaces").tBodies[0].rows, sum = {};
    const columns = [["points_per_block", plan.count], ["copies", (v) => plan.fixed(v, 3), true], ["stored_point_bytes", plan.significant], ["disk_bytes", plan.bytes, true], ["files", plan.count, true], ["peak_points", plan.count, true], ["memory_bytes", plan.bytes, true], ["aggregation_bytes", plan.bytes, true]];
    now.namespaces.forEach((n, i) => columns.forEach(([key, show], j) => {
      rows[i].cells[6 + j].textContent = show(n[key]);
      sum[key] = (sum[key] || 0) + n[key];
    }));
    const foot = $("namespaces").tFoot.rows[0].cells;
    foot[0].textContent = "Together";
    columns.forEach(([key, show, adds], j) => { foot[6 + j].textContent = adds ? show(sum[key]) : ""; });
  }

  // Charts.
  const legend = (entries) => element("ul", {class: "legend"}, ...entries.map(([name, c, value]) => element("li", {}, element("i", {background: c}), name + " ", element("b", {}, value))));
  function scale(most, binary) { // round steps for an axis that reaches most
    const unit = binary ? 1024 ** Math.floor(Math.log(Math.max(most, 1)) / Math.log(1024)) : 1, v = most / unit;
    const power = 10 ** Math.floor(Math.log10(Math.max(v, 1e-9) / 4));
    const step = [1, 2, 2.5, 5, 10].map((m) => m * power).find((s) => v / s <= 5) * unit, out = [];
    for (let t = 0; t <= most * 1.0001; t += step) out.push(t);
    return out;
  }
  function axisTimes(end) {
    const step = [10 * minute, hour, 2 * hour, 6 * hour, 12 * hour, day, 2 * day, 5 * day, 7 * day, 10 * day, 30 * day, 60 * day, 90 * day, 365 * day, 730 * day, 3650 * day].find((s) => end / s <= 8) || end / 4;
    const out = [];
    for (let t = 0; t <= end * 1.0001; t += step) out.push(t);
    return out;
  }
  function charts() {
    diskChart();
    memoryChart();
    filesChart();
  }
  const days = (t) => t >= 2 * day && t % day === 0 && t % (365 * day) !== 0 ? plan.fixed(t / day, 0) + "d" : plan.duration(t);
  // limited is a dashed line with a rim, so that it is seen on every colour, and its text.
  const limited = (x1, y1, x2, y2, text, at, y, anchor) => [
    drawing("line", {class: "rim", x1, y1, x2, y2}), drawing("line", {class: "limit", x1, y1, x2, y2}), drawing("text", {class: "limit-text", x: at, y, "text-anchor": anchor}, text),
  ];
  function diskChart() {
    const ends = now.phases.map((f) => f.to_seconds), last = ends[ends.length - 1];
    if (!ends.includes(zoom)) zoom = null;
    const end = (zoom || last) * (zoom && zoom !== last ? 1 : 1.08);
    $("zoom").replaceChildren(...(ends.length < 2 ? [] : ends).map((t) => element("button", {type: "button", "aria-pressed": String((zoom || last) === t), onclick: () => { zoom = t; diskChart(); }}, t === last ? "all" : days(t))));
    const other = now.disk.snapshot_bytes + now.disk.commit_log_bytes;
    const at = (t) => [other, ...now.namespaces.map((n) => n.disk_bytes * Math.min(t, n.kept_seconds) / n.kept_seconds)];
    const points = [0, ...ends.filter((t) => t < end), end], total = at(end).reduce((a, b) => a + b);
    const limit = input.node_disk_bytes * input.assume.disk_fill, most = Math.max(total * 1.06, limit > 0 && limit < total * 2.5 ? limit * 1.08 : 0);
    const w = Math.max($("disk-chart").clientWidth, 320), h = 300, left = 74, right = 10, top = 12, bottom = 30;
    const x = (t) => left + (w - left - right) * t / end, y = (b) => h - bottom - (h - top - bottom) * b / most;
    const svg = drawing("svg", {viewBox: `0 0 ${w} ${h}`, height: h, role: "img", "aria-label": `Disk of a node: ${plan.bytes(total)} after ${plan.duration(end)}`});
    for (const b of scale(most, true)) svg.append(drawing("line", {class: "grid", x1: left, x2: w - right, y1: y(b), y2: y(b)}), drawing("text", {x: left - 9, y: y(b) + 4, "text-anchor": "end"}, plan.bytes(b)));
    for (const t of axisTimes(end)) svg.append(drawing("text", {x: x(t), y: h - 9, "text-anchor": "middle"}, t === 0 ? "start" : days(t)));
    const stacks = points.map((t) => { let s = 0; return [0, ...at(t).map((b) => s += b)]; });
    for (let i = 0; i <= now.namespaces.length; i++) {
      const upper = points.map((t, k) => `${x(t)},${y(stacks[k][i + 1])}`), lower = points.map((t, k) => `${x(t)},${y(stacks[k][i])}`).reverse();
      svg.append(drawing("polygon", {points: [...upper, ...lower].join(" "), fill: i === 0 ? "var(--base)" : colour(i - 1)}));
    }
    if (limit > 0 && limit <= most) svg.append(...limited(left, y(limit), w - right, y(limit), `${plan.percent(input.assume.disk_fill)} of ${plan.bytes(input.node_disk_bytes)}`, left + 8, y(limit) - 7, "start"));
    const cross = drawing("line", {class: "cross", y1: top, y2: h - bottom, visibility: "hidden"});
    svg.append(cross);
    svg.addEventListener("pointermove", (e) => {
      const t = Math.min(Math.max((e.clientX - svg.getBoundingClientRect().left - left) / (w - left - right), 0), 1) * end, values = at(t);
      cross.setAttribute("x1", x(t));
      cross.setAttribute("x2", x(t));
      cross.setAttribute("visibility", "visible");
      tip(e, "After " + plan.duration(t < 2 * day ? Math.round(t / minute) * minute : Math.round(t / day) * day), [
        ...now.namespaces.map((n, i) => [n.name, colour(i), plan.bytes(values[i + 1])]).reverse(), ["snapshots, commit log", "var(--base)", plan.bytes(other)], ["together", "transparent", plan.bytes(values.reduce((a, b) => a + b))],
      ]);
    });
    svg.addEventListener("pointerleave", () => { $("tip").hidden = true; cross.setAttribute("visibility", "hidden"); });
    $("disk-chart").replaceChildren(svg, legend([...now.namespaces.map((n, i) => [n.name, colour(i), plan.bytes(n.disk_bytes)]), ["snapshots and commit log", "var(--base)", plan.bytes(other)]]));
  }
  function tip(e, title, rows) {
    const t = $("tip");
    t.replaceChildren(element("b", {}, title), ...rows.map(([name, c, value]) => element("div", {}, element("span", {}, element("i", {background: c}), name), element("b", {}, value))));
    t.hidden = false;
    t.style.left = Math.min(e.clientX + 16, innerWidth - t.offsetWidth - 8) + "px";
    t.style.top = Math.max(8, Math.min(e.clientY + 16, innerHeight - t.offsetHeight - 8)) + "px";
  }
  // bars are rows of parts side by side: {name, value, parts: [[name, size, fill]], limit, limitText}.
  function bars(where, rows, show, ticks) {
    const w = Math.max($(where).clientWidth, 320), left = 118, right = 14, row = 66, top = 8, bottom = 26, h = top + rows.length * row + bottom;
    const most = Math.max(...rows.map((r) => Math.max(r.parts.reduce((a, p) => a + p[1], 0), r.limit && r.limit < 3 * r.parts.reduce((a, p) => a + p[1], 0) ? r.limit : 0))) * 1.04 || 1;
    const x = (v) => left + (w - left - right) * v / most;
    const svg = drawing("svg", {viewBox: `0 0 ${w} ${h}`, height: h, role: "img", "aria-label": rows.map((r) => `${r.name}: ${r.value}`).join(", ")});
    for (const v of ticks(most)) svg.append(drawing("line", {class: "grid", x1: x(v), x2: x(v), y1: top, y2: h - bottom}), drawing("text", {x: x(v), y: h - 7, "text-anchor": "middle"}, show(v)));
    rows.forEach((r, i) => {
      const y = top + i * row + 14;
      svg.append(drawing("text", {class: "strong", x: 0, y: y + 14}, r.name), drawing("text", {x: 0, y: y + 31}, r.value));
      let from = 0;
      for (const [name, size, fill] of r.parts) {
        const bar = drawing("rect", {x: x(from), y, width: Math.max(x(from + size) - x(from), 0), height: 34, fill});
        bar.addEventListener("pointermove", (e) => tip(e, r.name, [[name, fill, show(size)]]));
        bar.addEventListener("pointerleave", () => { $("tip").hidden = true; });
        svg.append(bar);
        from += size;
      }
      if (r.limit && r.limit <= most) {
        const end = x(r.limit) > w - 190;
        svg.append(...limited(x(r.limit), y - 14, x(r.limit), y + 40, r.limitText, x(r.limit) + (end ? -7 : 7), y - 6, end ? "end" : "start"));
      }
    });
    return svg;
  }
  function memoryChart() {
    const m = now.memory, c = now.coordinator, free = "var(--free)";
    const node = [["process", m.base_bytes, "var(--base)"], ["read blocks", m.cache_bytes, "var(--m0)"], ["open series", m.series_bytes, "var(--m1)"], ["their points", m.point_bytes, "var(--m2)"], ["to be left free", m.needed_bytes - m.used_bytes, free]];
    const coordinator = [["process", c.base_bytes, "var(--base)"], ["requests", c.in_flight_bytes, "var(--m3)"], ["aggregation", c.aggregation_bytes, "var(--m4)"], ["to be left free", c.needed_bytes - c.used_bytes, free]];
    const svg = bars("memory-chart", [
      {name: "A node", value: plan.bytes(m.needed_bytes), parts: node, limit: input.node_memory_bytes, limitText: "it has " + plan.bytes(input.node_memory_bytes)},
      {name: "A coordinator", value: plan.bytes(c.needed_bytes), parts: coordinator, limit: input.coordinator_memory_bytes, limitText: "it has " + plan.bytes(input.coordinator_memory_bytes)},
    ], plan.bytes, (most) => scale(most, true));
    $("memory-chart").replaceChildren(svg, legend([...node.slice(0, 4), ...coordinator.slice(1, 3)].map(([name, v, fill]) => [name, fill, plan.bytes(v)]).concat([["to be left free: mapped files, queries, bootstraps", free, ""]])));
  }
  function filesChart() {
    const a = input.assume, parts = (each) => now.namespaces.map((n, i) => [n.name, n.filesets * each, colour(i)]);
    const svg = bars("files-chart", [
      {name: "On disk", value: plan.count(now.files.files), parts: parts(a.files_per_fileset)},
      {name: "Kept open", value: plan.count(now.files.open), parts: parts(a.open_files_per_fileset), limit: a.open_file_limit, limitText: "nofile " + plan.count(a.open_file_limit)},
      {name: "Mapped", value: plan.count(now.files.maps), parts: parts(a.maps_per_fileset), limit: a.map_limit, limitText: "vm.max_map_count " + plan.count(a.map_limit)},
    ], plan.count, (most) => scale(most, false));
    $("files-chart").replaceChildren(svg, legend(now.namespaces.map((n, i) => [n.name, colour(i), plan.count(n.files)])));
  }

  // The address.
  function fromAddress() {
    let x;
    try {
      x = JSON.parse(decodeURIComponent(location.hash.slice(1)));
    } catch {
      return null;
    }
    const like = (value, pattern) => value !== null && typeof value === "object" && Object.entries(pattern).every(([k, v]) => typeof value[k] === typeof v && (typeof v !== "number" || Number.isFinite(value[k]) && value[k] >= 0));
    const sample = data.input.namespaces[0];
    if (!like(x, data.input) || !like(x.assume, data.input.assume) || !Array.isArray(x.namespaces) || !x.namespaces.every((n) => like(n, sample))) return null;
    return x.namespaces.filter((n) => n.resolution_seconds === 0).length === 1 ? x : null;
  }

  function build() {
    sliders();
    namespaceRows();
    assumptionRows();
    update();
  }
  $("reset").addEventListener("click", () => { input = copy(data.input); build(); });
  $("add").addEventListener("click", addNamespace);
  const themes = ["system", "light", "dark"];
  $("theme").addEventListener("click", () => {
    const root = document.documentElement, next = themes[(themes.indexOf(root.dataset.theme || "system") + 1) % 3];
    if (next === "system") delete root.dataset.theme;
    else root.dataset.theme = next;
    $("theme").textContent = "Theme: " + next;
  });
  let width = innerWidth;
  addEventListener("resize", () => { if (innerWidth !== width) { width = innerWidth; charts(); } });
  build();
})();
