// Filters over the metadata fields of the index: one row a field, read into the JSON that the service takes.

import { byId, make } from "./dom.js";

const area = byId("filters");
const adder = byId("filter-add");
const OPERATORS = { is: "is", in: "is one of", range: "is from … to" };
const OFFERED = {
  string: ["is", "in", "range"],
  number: ["is", "in", "range"],
  boolean: ["is"],
  mixed: ["is", "in"],
};

let types = {}; // field name -> type, those that can be filtered on
let changed = () => {};
const seen = new Map(); // field name -> values in the hits so far, suggested while typing
const rows = new Set();

/** Takes the fields of an index; rows about fields that it lacks are dropped. */
export function setFields(fields) {
  types = Object.fromEntries(Object.entries(fields).filter(([, type]) => type in OFFERED));
  seen.clear();
  for (const row of rows) if (types[row.field()] !== row.type) row.remove();
  offer();
}

/** The conditions of the rows that are filled in, or null where there is none. */
export function filter() {
  const conditions = [...rows].map((row) => [row.field(), row.condition()]).filter(([, condition]) => condition !== null);
  return conditions.length ? Object.fromEntries(conditions) : null;
}

export function onFilter(callback) {
  changed = callback;
}

/** Notes the metadata of a hit for suggestions. */
export function learn(metadata) {
  for (const [field, value] of Object.entries(metadata)) {
    if (!(field in types)) continue;
    const values = seen.get(field) ?? seen.set(field, new Set()).get(field);
    for (const one of [value].flat()) if (values.size < 200 && one !== null) values.add(String(one));
  }
}

adder.addEventListener("click", () => {
  const used = usedFields();
  const field = Object.keys(types).find((name) => !used.has(name));
  if (field !== undefined) addRow(field);
});

function addRow(first) {
  const field = make("select", { ariaLabel: "Field" });
  const operator = make("select", { ariaLabel: "Condition" });
  const values = make("span", { className: "values" });
  const remove = make("button", { type: "button", className: "quiet", textContent: "Remove" });
  const node = make("div", { className: "filter" }, field, operator, values, remove);
  const row = {
    type: "",
    field: () => field.value,
    condition: () => read(row.type, operator.value, [...values.querySelectorAll("input, select")]),
    remove: () => drop(row, node),
    offerFields: (used) => fillFields(field, used),
  };
  const retype = () => {
    row.type = types[field.value];
    operator.replaceChildren(...OFFERED[row.type].map((name) => new Option(OPERATORS[name], name)));
    remove.ariaLabel = `Remove the filter on ${field.value}`;
    node.ariaLabel = `Filter on ${field.value}`;
    redraw();
  };
  const redraw = () => values.replaceChildren(...inputs(field.value, row.type, operator.value));
  fillFields(field, new Set());
  field.value = first;
  field.addEventListener("change", () => (retype(), offer()));
  operator.addEventListener("change", redraw);
  node.addEventListener("change", () => changed());
  remove.addEventListener("click", () => (row.remove(), offer(), adder.focus(), changed()));
  node.setAttribute("role", "group");
  rows.add(row);
  area.append(node);
  retype();
  offer();
  field.focus();
}

function drop(row, node) {
  rows.delete(row);
  node.remove();
}

const usedFields = () => new Set([...rows].map((row) => row.field()));

function offer() {
  const used = usedFields();
  for (const row of rows) row.offerFields(used);
  adder.hidden = Object.keys(types).length === 0;
  adder.disabled = used.size >= Object.keys(types).length;
  area.hidden = rows.size === 0;
}

function fillFields(select, used) {
  const current = select.value;
  select.replaceChildren(...Object.keys(types).sort().map((name) => new Option(name, name)));
  for (const option of select.options) option.disabled = option.value !== current && used.has(option.value);
  if (current in types) select.value = current;
}

function inputs(field, type, operator) {
  if (type === "boolean") {
    const select = make("select", { ariaLabel: `Value of ${field}` });
    select.append(new Option("any", ""), new Option("true"), new Option("false"));
    return [select];
  }
  const kind = type === "number" && operator !== "in" ? { type: "number", step: "any" } : { type: "text" };
  if (operator === "range") {
    return [
      make("input", { ...kind, ariaLabel: `${field} from`, placeholder: "from" }),
      make("input", { ...kind, ariaLabel: `${field} to`, placeholder: "to" }),
    ];
  }
  const placeholder = operator === "in" ? "values, with commas" : "value";
  const input = make("input", { ...kind, ariaLabel: `Value of ${field}`, placeholder });
  const list = make("datalist", { id: `seen-${field}` });
  list.append(...[...(seen.get(field) ?? [])].sort().map((value) => new Option(value)));
  if (operator === "is") input.setAttribute("list", list.id);
  return [input, list];
}

function read(type, operator, fields) {
  const texts = fields.map(({ value }) => value.trim());
  if (operator === "range") {
    const bounds = [["gte", texts[0]], ["lte", texts[1]]].filter(([, text]) => text !== "");
    return bounds.length ? Object.fromEntries(bounds.map(([name, text]) => [name, typed(type, text)])) : null;
  }
  const given = (operator === "in" ? texts[0].split(",") : texts).map((text) => text.trim()).filter(Boolean);
  if (!given.length) return null;
  if (type === "mixed") return { in: given.flatMap(guesses) };
  return operator === "in" ? { in: given.map((text) => typed(type, text)) } : typed(type, given[0]);
}

/** The value in its field's type; text that is none of that type goes out as it is, and the service says what is wrong. */
function typed(type, text) {
  if (type === "boolean") return text === "true";
  return type === "number" && !Number.isNaN(Number(text)) ? Number(text) : text;
}

/** What a text may stand for in a field of several types. */
function guesses(text) {
  const number = Number(text);
  return [text, ...(Number.isNaN(number) ? [] : [number]), ...(["true", "false"].includes(text) ? [text === "true"] : [])];
}
