// What is around every page: the name, the ways to the pages, whether the farm is connected, who is signed in.
import { ActionIcon, AppShell, Button, Container, Group, Menu, useMantineColorScheme } from "@mantine/core";
import { useQuery, useQueryClient } from "@tanstack/react-query";
import { Link, Outlet, useNavigate, useRouter } from "@tanstack/react-router";
import { IconLogout, IconMoon, IconPlugConnectedX, IconRss, IconServerBolt, IconSettings, IconSun, IconTextCaption, IconUser } from "@tabler/icons-react";
import { useEffect, useState } from "react";

import { sessionQuery } from "../api/queries";
import icon from "../icon.svg";
import { Applied } from "../live/apply";
import { hello, listen } from "../live/live";
import { signOut } from "../pages/sign-in/session";
import { useWords } from "../words";
import style from "./Shell.module.css";

const PAGES = [["/", "transcriptions", IconTextCaption], ["/feeds", "feeds", IconRss], ["/farm", "farm", IconServerBolt]] as const;

export function Shell() {
  const { t } = useWords();
  const connected = useLive();
  return (
    <AppShell header={{ height: 56 }} padding={0}>
      <a className={style.skip} href="#content" onClick={skip}>{t.skip}</a>
      <AppShell.Header className={style.header}>
        <Container size="lg" h="100%">
          <Group h="100%" gap="xs" wrap="nowrap">
            <Link to="/" className={style.brand} aria-label={t.app}>
              <img src={icon} alt="" width={28} height={28} />
              <span className={style.name}>{t.app}</span>
            </Link>
            <nav className={style.nav} aria-label={t.nav.main}>
              {PAGES.map(([to, name, Icon]) => (
                <Link key={to} to={to} activeOptions={{ exact: to === "/" }} className={style.link}>
                  <Icon size={18} aria-hidden />
                  <span>{t.nav[name]}</span>
                </Link>
              ))}
            </nav>
            <Colours />
            <Person />
          </Group>
        </Container>
      </AppShell.Header>
      <AppShell.Main>
        <div role="status" aria-live="polite">
          {!connected && <div className={style.lost}><IconPlugConnectedX size={18} aria-hidden /> {t.lost}</div>}
        </div>
        <div id="said" className={style.said} aria-live="polite" />
        <div id="content" tabIndex={-1} className={style.content}><Outlet /></div>
      </AppShell.Main>
    </AppShell>
  );
}

function skip(event: React.MouseEvent) {
  event.preventDefault(); // the address behind the # is the page's
  document.getElementById("content")?.focus();
}

function Colours() {
  const { t } = useWords();
  const { colorScheme, setColorScheme } = useMantineColorScheme();
  const dark = colorScheme === "dark" || (colorScheme === "auto" && matchMedia("(prefers-color-scheme: dark)").matches);
  return (
    <ActionIcon
      variant="subtle"
      size="lg"
      color="gray"
      className={style.colours}
      aria-label={`${t.theme.label}: ${dark ? t.theme.light : t.theme.dark}`}
      onClick={() => setColorScheme(dark ? "light" : "dark")}
    >
      {dark ? <IconSun size={19} /> : <IconMoon size={19} />}
    </ActionIcon>
  );
}

function Person() {
  const { t } = useWords();
  const { data: session } = useQuery(sessionQuery);
  const client = useQueryClient();
  const navigate = useNavigate();
  return (
    <Menu position="bottom-end" width={200}>
      <Menu.Target>
        <Button
          variant="subtle"
          color="gray"
          px="xs"
          leftSection={<IconUser size={18} aria-hidden />}
          classNames={{ label: style.person, section: style.personIcon }}
          aria-label={`${t.settings.title}: ${session?.owner ?? ""}`}
        >
          {session?.owner}
        </Button>
      </Menu.Target>
      <Menu.Dropdown>
        <Menu.Item component={Link} to="/settings" leftSection={<IconSettings size={16} aria-hidden />}>
          {t.settings.title}
        </Menu.Item>
        <Menu.Item
          leftSection={<IconLogout size={16} aria-hidden />}
          onClick={() => void signOut(client).then(() => navigate({ to: "/sign-in" }))}
        >
          {t.signIn.signOut}
        </Menu.Item>
      </Menu.Dropdown>
    </Menu>
  );
}

/** Keeps everything shown up to date; says whether the stream is connected. */
function useLive(): boolean {
  const client = useQueryClient();
  const navigate = useNavigate();
  const router = useRouter();
  const [connected, setConnected] = useState(true);
  useEffect(() => {
    const applied = new Applied(client);
    const stop = listen((message) => {
      switch (message.type) {
        case "event":
          applied.event(message.event);
          break;
        case "reset":
          void client.invalidateQueries();
          break;
        case "connected":
          setConnected(message.connected);
          break;
        case "signed-out":
          client.clear();
          void navigate({ to: "/sign-in", search: { to: router.state.location.href } }); // and back again
          break;
      }
    });
    hello();
    return stop;
  }, [client, navigate, router]);
  return connected;
}
