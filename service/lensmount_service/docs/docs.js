"use strict";
// A separate file, because the page's policy forbids scripts within the HTML.
window.ui = SwaggerUIBundle({
  url: "openapi.json",
  dom_id: "#swagger-ui",
  deepLinking: true,
  validatorUrl: null, // the default sends the description to a validator on the internet
  onComplete: () => {
    const token = sessionStorage.getItem("lensmount-token"); // the web page's, in the same tab
    if (token) window.ui.preauthorizeApiKey("token", token);
  },
});
