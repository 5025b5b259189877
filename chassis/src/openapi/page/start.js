// Requests go to where the page came from, whatever a proxy put in front of it.
const address = new URL("openapi.json", document.baseURI);
fetch(address)
  .then((answer) => answer.json())
  .then((spec) => {
    document.title = spec.info.title;
    spec.servers = [{ url: new URL(".", address).href.replace(/\/$/, "") }];
    SwaggerUIBundle({ spec, dom_id: "#page", deepLinking: true, validatorUrl: null });
  })
  .catch((error) => {
    document.getElementById("page").textContent = `${address} cannot be shown: ${error}`;
  });
