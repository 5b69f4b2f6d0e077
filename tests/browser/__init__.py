"""What a person sees: OpenClaw's own Control UI in Chromium, with Clawmend beside its gateway."""
