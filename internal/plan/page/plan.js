// The arithmetic of the package plan once more, for a page that computes again when a slider moves. Whatever is changed here is
// changed in plan.go, findings.go and format.go too: the tests compare the two on many inputs.
"use strict";
const plan = (() => {
  const minute = 60, hour = 60 * minute, day = 24 * hour;
  const kib = 1024;

  // Formats.
  function fixed(v, decimals) {
    const scaled = Math.floor(v * Math.pow(10, decimals) + 0.5);
    let digits = BigInt(scaled).toString();
    if (decimals === 0) return digits;
    digits = digits.padStart(decimals + 1, "0");
    return digits.slice(0, -decimals) + "." + digits.slice(-decimals);
  }
  function significant(v) {
    if (v < 9.995) return fixed(v, 2);
    if (v < 99.95) return fixed(v, 1);
    return fixed(v, 0);
  }
  // trimmed drops zeros at the end of decimals.
  const trimmed = (digits) => digits.includes(".") ? digits.replace(/\.?0+$/, "") : digits;
  function bytes(v) {
    const units = ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    if (v < 999.5) return fixed(v, 0) + " B";
    v /= kib;
    let i = 0;
    for (; v >= 999.5 && i < units.length - 1; i++) v /= kib;
    return significant(v) + " " + units[i];
  }
  function count(v) {
    let digits = fixed(v, 0);
    for (let i = digits.length - 3; i > 0; i -= 3) digits = digits.slice(0, i) + "," + digits.slice(i);
    return digits;
  }
  function short(v) {
    if (v < 999.5) return trimmed(significant(v));
    const units = ["k", "M", "G", "T", "P", "E"];
    v /= 1000;
    let i = 0;
    for (; v >= 999.5 && i < units.length - 1; i++) v /= 1000;
    return significant(v) + units[i];
  }
  function duration(seconds) {
    let ms = Math.floor(seconds * 1000 + 0.5), out = "";
    if (ms === 0) return "0s";
    for (const [name, unit] of [["y", 365 * day * 1000], ["d", day * 1000], ["h", hour * 1000], ["m", minute * 1000], ["s", 1000], ["ms", 1]]) {
      const n = Math.floor(ms / unit);
      if (n > 0) {
        out += fixed(n, 0) + name;
        ms -= n * unit;
      }
    }
    return out;
  }
  const percent = (share) => fixed(share * 100, 0) + " %";

  // What is derived from an input.
  const isRaw = (n) => n.resolution_seconds === 0;
  const shardsPerNode = (x) => x.shards_per_node > 0 ? x.shards_per_node : Math.ceil(x.shards * x.replicas / x.nodes);
  const nodeShare = (x) => shardsPerNode(x) / x.shards;
  const seriesIn = (x, n, seconds) => x.series * n.share * (1 + x.churn_per_day * seconds / day);
  const up = (x) => Math.max(x.coordinators - 1, 1);
  const filesetSeriesBytes = (a) => 2 * a.label_bytes + a.entry_bytes;
  const storedSeriesBytes = (a) => filesetSeriesBytes(a) + 2 * a.label_bytes + a.index_bytes;
  function downsamplePast(x, n) {
    const r = n.resolution_seconds;
    if (x.downsample_past_seconds > 0) return x.downsample_past_seconds;
    if (r < 30) return 15;
    if (r < minute) return 30;
    if (r < 2 * minute) return minute;
    return 2 * minute;
  }

  function namespacePlan(x, n) {
    const a = x.assume, node = nodeShare(x), p = {name: n.name};
    p.interval_seconds = Math.max(n.resolution_seconds, x.scrape_seconds);
    p.copies = n.share * x.scrape_seconds / p.interval_seconds;
    p.points_per_block = n.block_seconds / p.interval_seconds;
    p.blocks = Math.ceil(n.retention_seconds / n.block_seconds);
    p.kept_seconds = p.blocks * n.block_seconds;

    const rate = x.series * n.share / p.interval_seconds;
    p.points = rate * p.kept_seconds;
    p.sample_seconds = p.copies * p.kept_seconds;
    p.point_bytes = p.points * a.bytes_per_point * node;
    p.series_bytes = seriesIn(x, n, n.block_seconds) * p.blocks * storedSeriesBytes(a) * node;
    p.disk_bytes = p.point_bytes + p.series_bytes;
    p.stored_point_bytes = p.disk_bytes / (p.points * node);
    p.filesets = p.blocks * shardsPerNode(x);
    p.files = p.filesets * a.files_per_fileset;

    const held = n.block_seconds + n.buffer_past_seconds;
    p.open_points = p.points_per_block;
    p.peak_points = held / p.interval_seconds;
    p.series_memory_bytes = seriesIn(x, n, held) * a.series_memory_bytes * a.heap_growth * node;
    p.point_memory_bytes = rate * held * a.point_memory_bytes * a.heap_growth * node;
    p.memory_bytes = p.series_memory_bytes + p.point_memory_bytes;
    p.mapped_bytes = seriesIn(x, n, n.block_seconds) * p.blocks * a.mapped_bytes * node;

    p.windows = 0;
    p.aggregation_bytes = 0;
    if (!isRaw(n)) {
      p.windows = Math.ceil(downsamplePast(x, n) / p.interval_seconds) + 2;
      p.aggregation_bytes = x.series * n.share * (a.aggregate_series_bytes + p.windows * a.aggregate_window_bytes) * a.heap_growth;
    }
    return p;
  }

  function phases(p) {
    const ends = [...new Set(p.namespaces.map((n) => n.kept_seconds))].sort((a, b) => a - b);
    let from = 0;
    return ends.map((to) => {
      const phase = {from_seconds: from, to_seconds: to, copies: 0, points: 0, disk_bytes: []};
      for (const n of p.namespaces) {
        if (n.kept_seconds >= to) phase.copies += n.copies;
        const part = Math.min(to, n.kept_seconds) / n.kept_seconds;
        phase.points += n.points * part;
        phase.disk_bytes.push(n.disk_bytes * part);
      }
      from = to;
      return phase;
    });
  }

  function nodes(p) {
    const x = p.input, a = x.assume, node = nodeShare(x);
    const disk = {fileset_bytes: 0, snapshot_bytes: 0, commit_log_bytes: 0, used_bytes: 0, needed_bytes: 0};
    const files = {filesets: 0, files: 0, snapshots: 0, open: 0, maps: 0};
    const memory = {base_bytes: a.node_base_bytes, cache_bytes: a.node_cache_bytes, series_bytes: 0, point_bytes: 0, used_bytes: 0, mapped_bytes: 0, needed_bytes: 0};
    p.namespaces.forEach((n, i) => {
      const ns = x.namespaces[i], held = ns.block_seconds + ns.buffer_past_seconds;
      disk.fileset_bytes += n.disk_bytes;
      disk.snapshot_bytes += 2 * (x.series * ns.share * n.peak_points * a.bytes_per_point * node + seriesIn(x, ns, held) * filesetSeriesBytes(a) * node);
      disk.commit_log_bytes += seriesIn(x, ns, a.commit_log_seconds) * filesetSeriesBytes(a) * node * a.commit_log_files;
      files.filesets += n.filesets;
      files.files += n.files;
      memory.series_bytes += n.series_memory_bytes;
      memory.point_bytes += n.point_memory_bytes;
      memory.mapped_bytes += n.mapped_bytes;
    });
    disk.commit_log_bytes += p.writes_per_second * node * a.commit_log_point_bytes * a.commit_log_seconds * a.commit_log_files;
    disk.used_bytes = disk.fileset_bytes + disk.snapshot_bytes + disk.commit_log_bytes;
    disk.needed_bytes = disk.used_bytes / a.disk_fill;
    files.snapshots = 4 * a.files_per_fileset * p.shards_per_node * p.namespaces.length;
    files.open = files.filesets * a.open_files_per_fileset;
    files.maps = files.filesets * a.maps_per_fileset;
    memory.used_bytes = memory.base_bytes + memory.cache_bytes + memory.series_bytes + memory.point_bytes;
    memory.needed_bytes = memory.used_bytes / a.memory_fill;
    p.disk = disk;
    p.files = files;
    p.memory = memory;
    p.node_cores = p.writes_per_second * node / a.node_core_rate;
  }

  function coordinators(p) {
    const x = p.input, a = x.assume, c = {base_bytes: a.coordinator_base_bytes, in_flight_bytes: 0, aggregation_bytes: 0};
    let aggregated = 0;
    p.namespaces.forEach((n, i) => {
      c.aggregation_bytes += n.aggregation_bytes;
      if (!isRaw(x.namespaces[i])) aggregated += x.namespaces[i].share;
    });
    c.in_flight_bytes = p.samples_per_second * a.sample_in_flight_bytes / up(x);
    c.aggregation_bytes /= up(x);
    c.used_bytes = c.base_bytes + c.in_flight_bytes + c.aggregation_bytes;
    c.needed_bytes = c.used_bytes / a.coordinator_fill;
    c.cores = p.samples_per_second * (1 + aggregated * a.coordinator_aggregated_cost) / a.coordinator_core_rate / up(x);
    p.coordinator = c;
  }

  function fits(p) {
    const x = p.input, a = x.assume;
    const room = (given, fill, used, fixedPart) => given === 0 ? 0 : Math.floor(Math.max(given * fill - fixedPart, 0) / (used - fixedPart) * x.series);
    p.fits = {
      disk: room(x.node_disk_bytes, a.disk_fill, p.disk.used_bytes, 0),
      memory: room(x.node_memory_bytes, a.memory_fill, p.memory.used_bytes, p.memory.base_bytes + p.memory.cache_bytes),
      coordinator_memory: room(x.coordinator_memory_bytes, a.coordinator_fill, p.coordinator.used_bytes, p.coordinator.base_bytes),
    };
  }

  // Findings. texts is the table that the page was given: level and text by code.
  function findings(p, texts) {
    const x = p.input, a = x.assume, found = [];
    const add = (code, args) => found.push({code, level: texts[code].level, args});
    limits(p, add);
    cluster(x, add);
    lateness(p, add);
    p.namespaces.forEach((_, i) => {
      late(p, i, add);
      if (reads(x, i, add)) pays(p, i, add);
      block(p, i, add);
    });
    const rank = {problem: 0, advice: 1, note: 2};
    return found.sort((f, g) => rank[f.level] - rank[g.level]);
  }
  function text(finding, texts) {
    return texts[finding.code].text.replace(/\{(\w+)\}/g, (_, name) => finding.args[name]);
  }
  function limits(p, add) {
    const x = p.input, a = x.assume, near = 0.8;
    const over = (code, given, needed, used, room) => {
      if (given > 0 && needed > given) add(code, {needed: bytes(needed), used: bytes(used), given: bytes(given), fits: short(room), fill: percent(a.disk_fill)});
    };
    over("disk", x.node_disk_bytes, p.disk.needed_bytes, p.disk.used_bytes, p.fits.disk);
    over("memory", x.node_memory_bytes, p.memory.needed_bytes, p.memory.used_bytes, p.fits.memory);
    over("coordinator_memory", x.coordinator_memory_bytes, p.coordinator.needed_bytes, p.coordinator.used_bytes, p.fits.coordinator_memory);
    if (p.files.maps > near * a.map_limit) add("maps", {maps: count(p.files.maps), limit: count(a.map_limit)});
    if (p.files.open > near * a.open_file_limit) add("open_files", {open: count(p.files.open), limit: count(a.open_file_limit)});
    const free = Math.max(x.node_memory_bytes, p.memory.needed_bytes) - p.memory.used_bytes;
    if (p.memory.mapped_bytes > free) add("mapped", {mapped: bytes(p.memory.mapped_bytes), free: bytes(free)});
  }
  function suggestedShards(n) {
    for (const [most, shards] of [[3, 64], [6, 128], [12, 256], [24, 512], [48, 1024]]) if (n <= most) return shards;
    return 4096;
  }
  function cluster(x, add) {
    const suggested = suggestedShards(x.nodes);
    const args = {shards: count(x.shards), nodes: count(x.nodes), suggested: count(suggested)};
    if (x.shards < suggested / 2) add("shards_few", args);
    else if (x.shards > suggested * 2) add("shards_many", args);
    if (x.replicas < 3) add("replicas", {replicas: count(x.replicas)});
    if (x.coordinators === 1) add("coordinators", {});
  }
  function lateness(p, add) {
    const x = p.input, less = minute;
    if (x.downsample_past_seconds <= less) return;
    let sum = 0;
    for (const n of x.namespaces) sum += namespacePlan({...x, downsample_past_seconds: less}, n).aggregation_bytes;
    sum /= up(x);
    if (p.coordinator.aggregation_bytes - sum > p.coordinator.used_bytes / 4) {
      add("late_costs", {past: duration(x.downsample_past_seconds), aggregation: bytes(p.coordinator.aggregation_bytes), less: duration(less), then: bytes(sum)});
    }
  }
  function reads(x, i, add) {
    const n = x.namespaces[i];
    if (isRaw(n)) return true;
    const order = x.namespaces.map((_, j) => j).filter((j) => !isRaw(x.namespaces[j]));
    order.sort((j, k) => x.namespaces[j].resolution_seconds - x.namespaces[k].resolution_seconds);
    for (const j of [x.namespaces.findIndex(isRaw), ...order]) {
      if (j === i) break;
      const other = x.namespaces[j];
      if (other.retention_seconds >= n.retention_seconds) {
        add("never_read", {namespace: n.name, retention: duration(n.retention_seconds), other: other.name, longer: duration(other.retention_seconds)});
        return false;
      }
    }
    return true;
  }
  function late(p, i, add) {
    const x = p.input, n = x.namespaces[i], past = downsamplePast(x, n);
    if (!isRaw(n) && past + minute >= n.buffer_past_seconds) add("late_lost", {namespace: n.name, past: duration(past), buffer: duration(n.buffer_past_seconds)});
    if (!isRaw(n) && x.downsample_past_seconds === 0) {
      const more = (namespacePlan({...x, downsample_past_seconds: 5 * minute}, n).aggregation_bytes - p.namespaces[i].aggregation_bytes) / up(x);
      add("late_refused", {namespace: n.name, past: duration(past), aggregation: bytes(Math.max(more, 0))});
    }
    const share = n.buffer_past_seconds / n.block_seconds;
    if (share >= 0.5) add("buffer_past", {namespace: n.name, buffer: duration(n.buffer_past_seconds), block: duration(n.block_seconds), share: percent(share)});
  }
  function pays(p, i, add) {
    const x = p.input, n = x.namespaces[i], np = p.namespaces[i], at = x.namespaces.findIndex(isRaw), raw = x.namespaces[at];
    if (isRaw(n)) return;
    if (n.resolution_seconds <= x.scrape_seconds) add("same_points", {namespace: n.name, resolution: duration(n.resolution_seconds), scrape: duration(x.scrape_seconds)});
    const more = namespacePlan(x, {...raw, retention_seconds: n.retention_seconds}).disk_bytes - p.namespaces[at].disk_bytes;
    add(np.disk_bytes >= more ? "aggregation_loses" : "aggregation_pays", {
      namespace: n.name, disk: bytes(np.disk_bytes), retention: duration(n.retention_seconds), raw: bytes(more), memory: bytes(np.memory_bytes),
      aggregation: bytes(np.aggregation_bytes / up(x)),
    });
  }
  function block(p, i, add) {
    const x = p.input, n = x.namespaces[i], np = p.namespaces[i], wanted = x.assume.points_per_block;
    const better = betterBlock(x, n), q = namespacePlan(x, {...n, block_seconds: better});
    const args = {
      namespace: n.name, block: duration(n.block_seconds), points: count(np.points_per_block), wanted: count(wanted),
      stored: significant(np.stored_point_bytes), then: significant(q.stored_point_bytes), better: duration(better),
      disk: bytes(Math.abs(np.disk_bytes - q.disk_bytes)), files: count(Math.abs(np.files - q.files)), memory: bytes(Math.abs(np.memory_bytes - q.memory_bytes)),
    };
    if (np.points_per_block < wanted / 2 && better > n.block_seconds) add("block_short", args);
    else if (np.points_per_block > wanted * 1.5 && better < n.block_seconds) add("block_long", args);
    else if (n.block_seconds > 2 * day) add("block_days", {namespace: n.name, block: duration(n.block_seconds)});
  }
  function betterBlock(x, n) {
    const wanted = x.assume.points_per_block * Math.max(n.resolution_seconds, x.scrape_seconds);
    let better = n.block_seconds;
    for (const hours of [0.5, 1, 2, 3, 4, 6, 8, 12, 24, 48]) {
      const b = hours * hour;
      if (b <= wanted && b <= n.retention_seconds / 2 && b > n.buffer_past_seconds) better = b;
    }
    return better;
  }

  function compute(input, texts) {
    const p = {input, samples_per_second: input.series / input.scrape_seconds, writes_per_second: 0, shards_per_node: shardsPerNode(input), namespaces: []};
    for (const n of input.namespaces) {
      const np = namespacePlan(input, n);
      p.namespaces.push(np);
      p.writes_per_second += p.samples_per_second * np.copies;
    }
    p.phases = phases(p);
    nodes(p);
    coordinators(p);
    fits(p);
    p.findings = findings(p, texts);
    return p;
  }

  return {compute, text, bytes, count, short, duration, percent, fixed, significant};
})();
