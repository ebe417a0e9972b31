// Signing in and out.
import type { QueryClient } from "@tanstack/react-query";

import { api, data } from "../../api/client";

export async function signInWith(client: QueryClient, proof: { link: string } | { name: string; password: string }) {
  await data(api.POST("/app/session", { body: proof }));
  client.clear();
}

export async function signOut(client: QueryClient, everywhere = false) {
  await data(api.DELETE("/app/session", { params: { query: { everywhere } } }));
  client.clear();
}
