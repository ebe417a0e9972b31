// Where the app begins: the nonce for styles, the providers, the router.
import "@mantine/core/styles/baseline.layer.css";
import "@mantine/core/styles/default-css-variables.layer.css";
import "@mantine/core/styles/global.layer.css";
import "./styles";

import { localStorageColorSchemeManager, MantineProvider } from "@mantine/core";
import { Notifications } from "@mantine/notifications";
import { QueryClient, QueryClientProvider } from "@tanstack/react-query";
import { RouterProvider } from "@tanstack/react-router";
import { setNonce } from "get-nonce";
import { type ReactNode, StrictMode, useMemo } from "react";
import { createRoot } from "react-dom/client";

import { ApiError } from "./api/client";
import { nonce } from "./nonce";
import { makeRouter } from "./router";
import { cssVariables, themeWith } from "./theme";
import { useWords, WordsProvider } from "./words";

setNonce(nonce);

const client = new QueryClient({
  defaultOptions: {
    queries: {
      staleTime: 30_000,
      refetchOnWindowFocus: false, // the event stream tells what is new
      retry: (count, error) => !(error instanceof ApiError && error.status < 500) && count < 2,
    },
  },
});
const router = makeRouter(client);
const colours = localStorageColorSchemeManager({ key: "colours" });

declare module "@tanstack/react-router" {
  interface Register {
    router: typeof router;
  }
}

function Themed({ children }: { children: ReactNode }) {
  const { t } = useWords();
  const theme = useMemo(() => themeWith({ close: t.close, showPassword: t.signIn.showPassword }), [t]);
  return (
    <MantineProvider
      theme={theme}
      cssVariablesResolver={cssVariables}
      defaultColorScheme="auto"
      colorSchemeManager={colours}
      getStyleNonce={() => nonce}
    >
      {children}
    </MantineProvider>
  );
}

/** A note of something done covers dialogs, and not the menu that somebody opens meanwhile. */
const BELOW_MENUS = 250;

const root = document.getElementById("root");
if (root) {
  createRoot(root).render(
    <StrictMode>
      <WordsProvider>
        <Themed>
          <QueryClientProvider client={client}>
            <Notifications position="bottom-center" containerWidth={420} zIndex={BELOW_MENUS} />
            <RouterProvider router={router} />
          </QueryClientProvider>
        </Themed>
      </WordsProvider>
    </StrictMode>,
  );
}
