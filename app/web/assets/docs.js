// Shows the OpenAPI document of this service; nothing is loaded from anywhere else.
const place = document.getElementById("swagger-ui");

SwaggerUIBundle({
  url: place.dataset.openapi,
  domNode: place,
  deepLinking: true,
  docExpansion: "none",
  defaultModelsExpandDepth: 0,
  displayRequestDuration: true,
  filter: true,
  validatorUrl: null,
});
