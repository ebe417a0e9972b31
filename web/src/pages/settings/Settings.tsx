// What somebody can set, in parts: the next recordings, the own account, ways in for programs, people, limits.
import { Container, Stack, Title } from "@mantine/core";
import { useQuery } from "@tanstack/react-query";
import { Link, useParams } from "@tanstack/react-router";
import type { ReactNode } from "react";

import { sessionQuery } from "../../api/queries";
import type { Session } from "../../api/schema";
import { Section } from "../../shell/Parts";
import { useWords } from "../../words";
import { OptionsForm } from "../transcriptions/Options";
import { About } from "./About";
import { Appearance, Password, Sessions } from "./Account";
import { Glossary } from "./Glossary";
import { Limits } from "./Limits";
import { People } from "./People";
import style from "./Settings.module.css";
import { Tokens } from "./Tokens";
import { Webhooks } from "./Webhooks";

type Part = "recordings" | "account" | "programs" | "people" | "limits" | "about";
const EVERYBODYS: readonly Part[] = ["recordings", "account", "programs"];
const ADMINS: readonly Part[] = ["people", "limits"];

export function Settings() {
  const { t } = useWords();
  const { data: session } = useQuery(sessionQuery);
  const { part } = useParams({ strict: false });
  if (!session) return null;
  const parts: readonly Part[] = [...EVERYBODYS, ...(session.scope === "admin" ? ADMINS : []), "about"];
  const shown = parts.find((one) => one === part) ?? "recordings";
  return (
    <Container size="lg" py="lg">
      <Title order={1} mb="md">{t.settings.title}</Title>
      <div className={style.page}>
        <nav className={style.parts} aria-label={t.settings.title}>
          {parts.map((one) => (
            <Link key={one} to="/settings/{-$part}" params={{ part: one }} aria-current={one === shown ? "page" : undefined}>
              {t.settings.parts[one]}
            </Link>
          ))}
        </nav>
        <Stack gap="lg">{contents(shown, session)}</Stack>
      </div>
    </Container>
  );
}

function contents(part: Part, session: Session): ReactNode {
  switch (part) {
    case "recordings":
      return (
        <>
          <Defaults />
          <Glossary />
        </>
      );
    case "account":
      return (
        <>
          <Appearance />
          {session.has_account && <Password session={session} />}
          <Sessions />
        </>
      );
    case "programs":
      return (
        <>
          <Tokens admin={session.scope === "admin"} />
          <Webhooks />
        </>
      );
    case "people":
      return <People />;
    case "limits":
      return <Limits />;
    case "about":
      return <About version={session.version} />;
  }
}

function Defaults() {
  const { t } = useWords();
  return <Section title={t.settings.defaults} hint={t.settings.defaultsHint}><OptionsForm /></Section>;
}
