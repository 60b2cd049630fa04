// /openapi.json as a page.

const make = (tag, text = "", ...children) => {
  const element = document.createElement(tag);
  element.append(text, ...children);
  return element;
};
const row = (name, ...texts) => {
  const head = make("th", name);
  head.scope = "row";
  return make("tr", "", head, ...texts.map((text) => make("td", text)));
};

function values(schema) {
  const parts = schema.anyOf?.filter((each) => each.type !== "null") ?? [schema];
  const [one] = parts;
  const low = one.minimum ?? one.exclusiveMinimum;
  const high = one.maximum ?? one.exclusiveMaximum;
  const reach = one.enum?.join(", ") ?? (low === undefined ? one.type ?? "" : `${low} to ${high}`);
  return schema.default === undefined || schema.default === null ? reach : `${reach}; by default ${schema.default}`;
}

function operation(path, method, told) {
  const article = make("article", "", make("h2", "", make("b", method.toUpperCase()), path), make("p", told.summary ?? ""));
  for (const sample of told["x-codeSamples"] ?? []) {
    const code = make("pre", sample.source);
    code.tabIndex = 0; // it scrolls
    article.append(code);
  }
  const body = told.requestBody?.content["multipart/form-data"].schema.properties ?? {};
  const fields = Object.entries(body).map(([name, each]) => row(name, "file", each.description));
  const queries = (told.parameters ?? []).map((each) => row(each.name, values(each.schema), each.description ?? ""));
  if (fields.length) article.append(make("h3", "Body, multipart/form-data"), make("table", "", ...fields));
  if (queries.length) article.append(make("h3", "Query"), make("table", "", ...queries));
  const answers = Object.entries(told.responses).map(([status, each]) => {
    const example = each.content?.["application/problem+json"]?.example;
    return row(status, each.description, example ? `${example.code}: ${example.detail}` : Object.keys(each.content ?? {}).join(", "));
  });
  article.append(make("h3", "Answers"), make("table", "", ...answers));
  return article;
}

const { paths } = await (await fetch("/openapi.json")).json();
for (const [path, methods] of Object.entries(paths))
  for (const [method, told] of Object.entries(methods)) document.getElementById("paths").append(operation(path, method, told));
