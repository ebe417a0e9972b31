// The pages and their addresses. They lie behind the `#`, so that the app works under any path of any server.
import type { QueryClient } from "@tanstack/react-query";
import { createHashHistory, createRootRouteWithContext, createRoute, createRouter, lazyRouteComponent, redirect } from "@tanstack/react-router";

import { api, data } from "./api/client";
import { sessionQuery } from "./api/queries";
import { SignIn, SignInByLink } from "./pages/sign-in/SignIn";
import { wantedOf } from "./pages/transcriptions/List";
import { Transcriptions } from "./pages/transcriptions/Transcriptions";
import { Failed, Missing } from "./shell/Failed";
import { Shell } from "./shell/Shell";

/** A page that is loaded when it is first wanted. Where the farm does not answer, that is said, and nothing is lost. */
const page = <T extends Record<string, unknown>, N extends keyof T & string>(load: () => Promise<T>, name: N) =>
  lazyRouteComponent(async (): Promise<T> => {
    try {
      return await load();
    } catch (error) {
      await data(api.GET("/app/session"));
      throw error; // the farm has another release: the router loads the app anew
    }
  }, name);

const root = createRootRouteWithContext<{ client: QueryClient }>()({ notFoundComponent: Missing });

const signIn = createRoute({
  getParentRoute: () => root,
  path: "/sign-in",
  validateSearch: (search: Record<string, unknown>): { to?: string } =>
    typeof search.to === "string" && search.to.startsWith("/") ? { to: search.to } : {},
  component: SignIn,
});
const signInByLink = createRoute({ getParentRoute: () => root, path: "/sign-in/$secret", component: SignInByLink });

const shell = createRoute({
  getParentRoute: () => root,
  id: "shell",
  component: Shell,
  beforeLoad: async ({ context, location }) => {
    const session = await context.client.ensureQueryData(sessionQuery);
    if (session.owner === null) {
      throw redirect({ to: "/sign-in", search: location.href === "/" ? {} : { to: location.href } });
    }
  },
});
const transcriptions = createRoute({
  getParentRoute: () => shell,
  path: "/",
  validateSearch: wantedOf,
  component: Transcriptions,
});
/** A second of a recording, in the address of a page that shows it. */
const moment = ({ t }: Record<string, unknown>): { t?: number } =>
  t !== undefined && Number.isFinite(Number(t)) ? { t: Math.max(0, Number(t)) } : {};
const transcription = createRoute({
  getParentRoute: () => shell,
  path: "/transcriptions/$id",
  validateSearch: moment,
  component: page(() => import("./pages/transcription/Transcription"), "Transcription"),
});
const shared = createRoute({
  getParentRoute: () => root,
  path: "/shared/$id/$secret",
  validateSearch: moment,
  component: page(() => import("./pages/shared/Shared"), "Shared"),
});
const farm = createRoute({
  getParentRoute: () => shell,
  path: "/farm",
  component: page(() => import("./pages/farm/Farm"), "Farm"),
});
const feeds = createRoute({
  getParentRoute: () => shell,
  path: "/feeds",
  component: page(() => import("./pages/feeds/Feeds"), "Feeds"),
});
const settings = createRoute({
  getParentRoute: () => shell,
  path: "/settings/{-$part}",
  component: page(() => import("./pages/settings/Settings"), "Settings"),
});

const tree = root.addChildren([signIn, signInByLink, shared, shell.addChildren([transcriptions, transcription, feeds, farm, settings])]);

export function makeRouter(client: QueryClient) {
  return createRouter({
    routeTree: tree,
    history: createHashHistory(),
    context: { client },
    defaultErrorComponent: Failed,
    defaultPreload: "intent",
    scrollRestoration: true,
  });
}
