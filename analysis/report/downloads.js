// The table as CSV and the chart as PNG.

// Quotes where CSV needs them; a text that a spreadsheet would take for a formula begins with an apostrophe.
function csvCell(value) {
  if (value === null || value === undefined) return "";
  if (isNumber(value)) return String(value);
  const text = /^[=+\-@\t\r]/.test(value) ? `'${value}` : String(value);
  return /[",\n\r]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
}

// A line per setting that the table shows, in its order, numbers in full.
function csv() {
  const columns = data.columns.filter(({ name }) => name !== "psnr");
  const heading = ["setting", "against_best", "difference_db", "p_holm", "on_front", "dense_networks", "runs", "psnr", "psnr_half_width", ...columns.map(({ name }) => name)];
  const asked = (row, name) => [...new Set(row.runs.map((run) => run.cells[data.columns.findIndex((item) => item.name === name)]))].join(" ");
  const rows = sorted(view.rows).map((row) => [
    row.label, row.against.verdict, row.against.difference?.mean, row.against.p, String(view.front.includes(row)), row.psnr.count, row.runs.length, row.psnr.mean, row.psnr.half,
    ...columns.map(({ name }) => (measures.has(name) ? row.values[name] : asked(row, name))),
  ]);
  return [heading, ...rows].map((cells) => cells.map(csvCell).join(",")).join("\n") + "\n";
}

function save(name, content) {
  const link = node("a", { href: URL.createObjectURL(content), download: name });
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 1000);
}

function downloadCsv() {
  save("settings.csv", new Blob([csv()], { type: "text/csv" }));
}

function downloadPng() {
  return Plotly.downloadImage(byId("quality-plot"), { format: "png", scale: 2, width: 900, height: 560, filename: "quality" });
}
