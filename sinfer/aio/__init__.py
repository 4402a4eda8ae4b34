"""What all asyncio code shares: ending tasks, batching concurrent calls, sharing connections."""
