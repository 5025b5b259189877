// Requests go to where the page came from, whatever a proxy put in front of it.
const address = new URL("openapi.json", document.baseURI);

// Swagger UI takes the bounds of a number for its examples. The largest u64 is no number of JavaScript, which rounds it up, so
// the service would refuse the example. The format says the same.
const withoutBoundsOfTheType = (value) => {
  if (typeof value !== "object" || value === null) return;
  if (/^u?int\d*$/.test(value.format)) {
    if (value.maximum >= 2 ** 31 - 1) delete value.maximum;
    if (value.minimum <= -(2 ** 31)) delete value.minimum;
  }
  Object.values(value).forEach(withoutBoundsOfTheType);
};

fetch(address)
  .then((answer) => answer.json())
  .then((spec) => {
    document.title = spec.info.title;
    spec.servers = [{ url: new URL(".", address).href.replace(/\/$/, "") }];
    withoutBoundsOfTheType(spec);
    SwaggerUIBundle({ spec, dom_id: "#page", deepLinking: true, validatorUrl: null });
  })
  .catch((error) => {
    document.getElementById("page").textContent = `${address} cannot be shown: ${error}`;
  });
