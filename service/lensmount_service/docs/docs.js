"use strict";
// A file of its own, because the policy of the page allows no script within the HTML.
window.ui = SwaggerUIBundle({
  url: "openapi.json",
  dom_id: "#swagger-ui",
  deepLinking: true,
  validatorUrl: null, // the default asks a server on the internet whether the document is valid
});
