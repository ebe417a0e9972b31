// When a worker works: as it was started, at any time, or in hours of its machine's day that are set here.
import { Button, Group, Modal, SegmentedControl, Stack, Text, TextInput } from "@mantine/core";
import { useState } from "react";

import { useChange } from "../../api/change";
import { api, data } from "../../api/client";
import type { WorkerView } from "../../api/schema";
import { Form } from "../../shell/Parts";
import { useWords } from "../../words";

const NIGHT = "22:00-07:00";
type Which = "own" | "always" | "hours";

export function HoursDialog({ one, onClose }: { one: WorkerView; onClose: () => void }) {
  const { t } = useWords();
  const wanted = one.wanted_hours ?? null;
  const [which, choose] = useState<Which>(wanted === null ? "own" : wanted ? "hours" : "always");
  const [from, until] = (wanted || one.hours || NIGHT).split("-");
  const change = useChange(
    (hours: string | null) => data(api.PUT("/api/workers/{worker_id}/hours", { params: { path: { worker_id: one.id } }, body: { hours } })),
    [["workers"]],
    onClose,
  );
  return (
    <Modal opened onClose={onClose} title={t.hours.title(one.name)}>
      <Form
        onSend={(written) => change.mutate(which === "own" ? null : which === "always" ? "" : `${written.from}-${written.until}`)}
      >
        <Stack>
          <Text size="sm">{t.hours.hint}</Text>
          <SegmentedControl
            orientation="vertical"
            fullWidth
            aria-label={t.hours.title(one.name)}
            value={which}
            onChange={choose}
            data={[
              { value: "own", label: t.hours.own(t.hours.shown(one.hours ?? "")) },
              { value: "always", label: t.hours.always },
              { value: "hours", label: t.hours.these },
            ]}
          />
          {which === "hours" && (
            <Group grow>
              <TextInput name="from" type="time" label={t.hours.from} defaultValue={from} required withAsterisk={false} />
              <TextInput name="until" type="time" label={t.hours.until} defaultValue={until?.replace("24:00", "00:00")} required withAsterisk={false} />
            </Group>
          )}
          <Group justify="flex-end"><Button type="submit" loading={change.isPending}>{t.list.save}</Button></Group>
        </Stack>
      </Form>
    </Modal>
  );
}
