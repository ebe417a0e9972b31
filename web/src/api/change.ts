// Changing something at the farm: what went wrong is shown, and what is shown of it is asked for again.
import { notifications } from "@mantine/notifications";
import { type QueryKey, useMutation, useQueryClient } from "@tanstack/react-query";

export const failed = (error: Error) => notifications.show({ color: "red", message: error.message });

/** `keys` are the queries that are out of date afterwards. */
export function useChange<T, V = void>(run: (wanted: V) => Promise<T>, keys: readonly QueryKey[], done?: (made: T, wanted: V) => void) {
  const client = useQueryClient();
  return useMutation({
    mutationFn: run,
    onSuccess: (made, wanted) => done?.(made, wanted),
    onError: failed,
    onSettled: () => Promise.all(keys.map((queryKey) => client.invalidateQueries({ queryKey }))),
  });
}
