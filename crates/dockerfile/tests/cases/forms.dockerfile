FROM a
CMD ["a", "b\"c"]
CMD ['a','b']
CMD [ ]
ENTRYPOINT []random
ENTRYPOINT
RUN ["echo", "$HOME"]
RUN
RUN --mount=type=bind
RUN -- --not-a-flag
CMD [1, "a"]
RUN ["a"] b
HEALTHCHECK NONE
HEALTHCHECK --interval=1m30s --timeout=3s --start-period=0s --start-interval=1ms --retries=3 CMD curl x
HEALTHCHECK cmd ["a", "b"]
