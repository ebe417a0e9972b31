// What the farm is, what it is built on, and what its server allows.
import { Anchor, Text } from "@mantine/core";
import { useQuery } from "@tanstack/react-query";

import { address, api, data } from "../../api/client";
import { serverQuery } from "../../api/queries";
import { Facts, Section } from "../../shell/Parts";
import { bytes, useWords } from "../../words";
import style from "./Settings.module.css";

export function Limits() {
  const { t, number } = useWords();
  const { data: server } = useQuery(serverQuery);
  if (!server) return null;
  const of = (value: number | null | undefined, show: (value: number) => string = number, none = t.settings.noLimit) =>
    value == null ? none : show(value);
  const limits: readonly (readonly [name: string, variable: string, value: string])[] = [
    [t.settings.limits.upload, "MAX_UPLOAD_BYTES", bytes(server.max_upload_bytes)],
    [t.settings.limits.unfinished, "MAX_UNFINISHED", of(server.max_unfinished)],
    [t.settings.limits.waiting, "MAX_WAITING_BYTES", of(server.max_waiting_bytes, bytes)],
    [t.settings.limits.workers, "MAX_WORKERS", of(server.max_workers)],
    [t.settings.limits.retention, "RETENTION_DAYS", of(server.retention_days, (days) => t.settings.days(number(days)), t.settings.notDeleted)],
    [t.settings.limits.trash, "TRASH_HOURS", of(server.trash_hours, (hours) => t.settings.hours(number(hours)))],
  ];
  return (
    <Section title={t.settings.parts.limits} hint={t.settings.limitsHint}>
      <table className={style.limits}>
        <tbody>
          {limits.map(([name, variable, value]) => (
            <tr key={variable}>
              <th scope="row">
                {name}
                <code>WHISPER_FARM_{variable}</code>
              </th>
              <td>{value}</td>
            </tr>
          ))}
        </tbody>
      </table>
    </Section>
  );
}

export function About({ version }: { version: string }) {
  const { t } = useWords();
  const { data: found } = useQuery({ queryKey: ["parts"], queryFn: () => data(api.GET("/app/parts")), staleTime: Infinity });
  return (
    <>
      <Section title={t.settings.version(version)}>
        <Text size="sm">{t.settings.licence}</Text>
      </Section>
      <Section title={t.settings.builtOn}>
        <Facts facts={found?.parts.map((one) => [one.name, `${one.version} · ${one.licence}`] as const) ?? []} />
        <Anchor href={address("app/licences.md")} size="sm">
          {t.settings.appLicences}
        </Anchor>
      </Section>
    </>
  );
}
