"use strict";
// A separate file, because the page's policy forbids scripts within the HTML.
window.ui = SwaggerUIBundle({
  url: "openapi.json",
  dom_id: "#swagger-ui",
  deepLinking: true,
  validatorUrl: null, // the default sends the description to a validator on the internet
});
