// What one person or token may have at the same time, and how long recordings are kept. What is changed counts at once.
import { Button, Group, NumberInput, SimpleGrid, Stack } from "@mantine/core";
import { notifications } from "@mantine/notifications";
import { useQuery } from "@tanstack/react-query";

import { useChange } from "../../api/change";
import { api, data } from "../../api/client";
import { limitsQuery } from "../../api/queries";
import type { LimitsChange } from "../../api/schema";
import { Form, Note, Section } from "../../shell/Parts";
import { useWords } from "../../words";

/** How each is shown: in so many of the server's units, and what is asked for at least. */
const SHOWN = {
  max_unfinished: { unit: 1, least: 1 },
  max_waiting_seconds: { unit: 3600, least: 0 },
  max_waiting_bytes: { unit: 2 ** 30, least: 0.001 },
  max_stored_bytes: { unit: 2 ** 30, least: 0 },
  max_workers: { unit: 1, least: 1 },
  retention_days: { unit: 1, least: 0 },
} as const;
type Limit = keyof typeof SHOWN;
const LIMITS = Object.keys(SHOWN) as Limit[];

export function Limits() {
  const { t, number } = useWords();
  const { data: found } = useQuery(limitsQuery);
  const change = useChange(
    (body: Partial<LimitsChange>) => data(api.PATCH("/api/limits", { body: body as LimitsChange })),
    [limitsQuery.queryKey],
    () => notifications.show({ message: t.settings.limitsSaved }),
  );
  if (!found) return null;
  const { limits, server } = found;
  const shown = (name: Limit, value: number | null | undefined) => (value == null ? null : value / SHOWN[name].unit);
  const send = (written: Readonly<Record<string, string>>) => {
    const wanted = LIMITS.map((name) => {
      const typed = written[name];
      const value = typed ? Number(typed) : null;
      if (value === rounded(shown(name, limits[name]))) return [name, limits[name]];
      return [name, value === null ? (name === "retention_days" ? null : server[name]) : Math.round(value * SHOWN[name].unit)];
    });
    change.mutate(Object.fromEntries(wanted) as Partial<LimitsChange>);
  };
  return (
    <Section title={t.settings.parts.limits} hint={t.settings.limitsHint}>
      <Form onSend={send} key={JSON.stringify(limits)}>
        <Stack gap="md">
          <SimpleGrid cols={{ base: 1, sm: 2 }} style={{ alignItems: "end" }}>
            {LIMITS.map((name) => (
              <NumberInput
                key={name}
                name={name}
                label={t.settings.limits[name]}
                description={server[name] === limits[name] ? undefined : t.settings.serversOwn(said(shown(name, server[name])))}
                placeholder={said(shown(name, server[name]))}
                defaultValue={rounded(shown(name, limits[name])) ?? ""}
                min={SHOWN[name].least}
                decimalScale={3}
                allowNegative={false}
                hideControls
              />
            ))}
          </SimpleGrid>
          <Note>{t.settings.limitsAdmins}</Note>
          <Group><Button type="submit" loading={change.isPending}>{t.list.save}</Button></Group>
        </Stack>
      </Form>
    </Section>
  );

  function said(value: number | null): string {
    return value === null ? t.settings.notDeleted : number(value, 3);
  }
}

const rounded = (value: number | null) => (value === null ? null : Math.round(value * 1000) / 1000);
