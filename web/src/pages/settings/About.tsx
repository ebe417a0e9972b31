// What the farm is, and what it is built on.
import { Anchor, Text } from "@mantine/core";
import { useQuery } from "@tanstack/react-query";

import { address, api, data } from "../../api/client";
import { Facts, Section } from "../../shell/Parts";
import { useWords } from "../../words";

export function About({ version }: { version: string }) {
  const { t } = useWords();
  const { data: found } = useQuery({ queryKey: ["parts"], queryFn: () => data(api.GET("/app/parts")), staleTime: Infinity });
  return (
    <>
      <Section title={t.settings.version(version)}><Text size="sm">{t.settings.licence}</Text></Section>
      <Section title={t.settings.builtOn}>
        <Facts wide facts={found?.parts.map((one) => [one.name, `${one.version} · ${one.licence}`] as const) ?? []} />
        <Anchor href={address("app/licences.md")} size="sm">{t.settings.appLicences}</Anchor>
      </Section>
    </>
  );
}
