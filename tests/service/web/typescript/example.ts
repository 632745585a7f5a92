// A program against the types that openapi-typescript makes of the server's OpenAPI document.
import createClient from "openapi-fetch";

import type { components, paths } from "./lensmount.js";

type Problem = components["schemas"]["Problem"];

const client = createClient<paths>({ baseUrl: "http://127.0.0.1:8000" });

export async function names(): Promise<string[]> {
  const { data, error } = await client.GET("/adapters");
  if (error !== undefined) {
    throw new Error((error as Problem).code);
  }
  return "deleted" in data ? [] : data.adapters.map((adapter) => adapter.name);
}

export async function protect(name: string, version: number): Promise<void> {
  await client.PUT("/adapters/{name}/aliases/{alias}", {
    params: { path: { name, alias: "prod" } },
    body: { version },
  });
}

// @ts-expect-error: a route that does not exist is an error of the types
void client.GET("/adapter");
